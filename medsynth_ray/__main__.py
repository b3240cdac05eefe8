"""`python -m medsynth_ray` is `medsynth`."""

from medsynth_ray.cli import app

app(prog_name="medsynth")
