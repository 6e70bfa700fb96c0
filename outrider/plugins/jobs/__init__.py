"""Job types: one file each, whose `JOB` has the file's name as its key."""
