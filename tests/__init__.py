"""The tests of fastq; what a test may touch is said by its folder."""
