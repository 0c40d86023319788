"""The files of an image, without the image: as a directory, or as one tar."""
