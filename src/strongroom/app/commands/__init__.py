"""One module for each verb of the command line; `strongroom.app.main` holds the table."""
