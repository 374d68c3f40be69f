"""From a secrets file's text to frozen pools, or all that is wrong with it. Pure."""
