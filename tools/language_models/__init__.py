"""Clients of language models: an endpoint of OpenAI's protocol, or transformers in this process."""
