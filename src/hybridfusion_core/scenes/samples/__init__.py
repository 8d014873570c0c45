"""The samples that are shipped as code: an organoid stack, a pair of images, a plate."""
