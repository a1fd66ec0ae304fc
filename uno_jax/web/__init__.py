"""A web page that draws: form -> pictures with their settings, in a folder that it shows as its history."""
