"""Native applications. The public names are in `fastq`; nothing is imported here: workers of Celery's look in, too."""
