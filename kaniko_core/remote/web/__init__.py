"""Files behind ``http://`` and ``https://`` addresses."""
