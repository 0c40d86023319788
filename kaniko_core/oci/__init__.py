"""What an image is: values and streams, with no network and no root filesystem."""
