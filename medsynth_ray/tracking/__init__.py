"""The only importer of mlflow: mirrors records to MLflow."""
