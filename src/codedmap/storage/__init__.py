"""Sources and sinks larger than memory, and the journal of what is finished."""
