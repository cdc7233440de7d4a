"""The command that says what a log's older items could be worth, before anything is trained."""
