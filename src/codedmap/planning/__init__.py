"""What stands behind the door `plan`.

`sampling` cuts a sample as `map` would and draws who is late, `replays` tries a code on it, `schemes`
says which codes are tried and how they are tuned, `verdict` which one to use, `table` shows it.
`asking` has the function compute in this process, `engine` on workers, and `auto` plans for a call of `map`.
"""
