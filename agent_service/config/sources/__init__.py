"""Sources of the configuration: values with their places, without their meaning.

- `environment`: the process's environment over a `.env` file; `dotenv`: that file
- `document`: the YAML file as plain values with their lines
- `operator_files`: small files named by a setting, including pipes
"""
