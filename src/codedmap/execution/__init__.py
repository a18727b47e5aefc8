"""How a job runs: payloads sent, answers collected, late tasks sent again, rows decoded."""
