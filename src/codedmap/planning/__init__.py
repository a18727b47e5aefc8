"""What stands behind `plan` and ``code="auto"``.

`pilot` holds what is known of a job after some of its rows, `times` draws how long its calls take, `replays` runs it in
virtual time, `errors` says how far off estimates are, and `ways` compares the ways to run it.
"""
