# Starts the service; settings come from the environment (../r-plumber-common/README.md).
seedplumber::serve()
