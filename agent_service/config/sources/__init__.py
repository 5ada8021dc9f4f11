"""Where the configuration comes from: the environment, a .env file and the YAML file."""
