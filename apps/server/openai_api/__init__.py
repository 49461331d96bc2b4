"""OpenAI's ``/v1/images`` and ``/v1/models``. The name leaves the package ``openai`` its own."""
