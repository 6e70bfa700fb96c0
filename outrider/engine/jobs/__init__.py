"""Running jobs: claiming through DBOS, executing, ending, and taking over what dead processes left."""
