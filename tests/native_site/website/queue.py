"""The application of the project."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "website.settings")

from fastq.contrib.django import application

app = application("website")
