"""Chat models of Hugging Face Inference Providers. Never retries, and never uses the stored login.

Requests go to Hugging Face's router, which passes them on to the provider that the profile names,
or else to one of its own choice. The client's way with a named provider is not taken: it asks the
hub first where the model is served, with whatever key it finds on this machine. A redirect is
followed, as the client does, but without the key.
"""

import asyncio
from collections.abc import Sequence

import httpx2
import openai
from huggingface_hub import AsyncInferenceClient
from huggingface_hub.errors import HfHubHTTPError, InferenceTimeoutError, OfflineModeIsEnabled

from nbutils.callpath.exchange import Call, Reply
from nbutils.callpath.service import CallError
from nbutils.callpath.spend import Price
from nbutils.roles import Role
from nbutils.services.clients import redact
from nbutils.services.endpoints import UNSENT, odd, read_completion, refusal

ROUTER = "https://router.huggingface.co/v1"


class HuggingFaceChat:
    """A chat model behind the router, or at a base_url. Sends one call at a time, and each once."""

    batch = 1
    concurrency: int | None = None

    def __init__(self, role: Role, key: str, timeout_s: float) -> None:
        self.endpoint = role.base_url or ROUTER
        self.model = f"{role.model}:{role.provider}" if role.provider else role.model
        self.sampling = dict(role.sampling)
        if role.logprobs:
            self.sampling |= {"logprobs": True, "top_logprobs": role.logprobs}
        self.longest = role.longest
        self.price = Price(role.price_in, role.price_out)
        self._key, self._timeout = key, timeout_s
        self._client: AsyncInferenceClient | None = None  # made in the loop that uses it

    async def send(self, calls: Sequence[Call]) -> list[Reply | CallError]:
        (call,) = calls
        if self._client is None:
            # An empty token would stand for the stored login.
            self._client = AsyncInferenceClient(
                base_url=self.endpoint, token=self._key or "none", timeout=self._timeout
            )
        fields = self.sampling | self.sampling.get("extra_body", {})
        fields.pop("extra_body", None)
        try:
            async with asyncio.timeout(self._timeout):
                body = await self._client.chat_completion(
                    messages=call.messages or [], model=self.model, extra_body=fields
                )
        except (TimeoutError, httpx2.HTTPError, OfflineModeIsEnabled) as error:
            raise self._fault(error) from None
        except UnicodeEncodeError as error:  # of the messages, such as half a character
            why = f"the request cannot be written: {redact(str(error), self._key)}"
            raise CallError(why, "row") from None
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise odd("is no JSON object", str(error), self._key) from None
        return [read_completion(body, self._key)]

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    def _fault(self, error: Exception) -> CallError:
        """What went wrong with a request, as the call path takes it."""
        if isinstance(error, TimeoutError | InferenceTimeoutError):
            why = f"no reply within {self._timeout:g} s"
            return CallError(why, "passing", charged=not isinstance(error.__cause__, UNSENT))
        if isinstance(error, OfflineModeIsEnabled):
            return CallError("HF_HUB_OFFLINE is set: unset it, and start anew", "service")
        if isinstance(error, HfHubHTTPError):
            try:
                body = error.response.json()
            except ValueError:
                body = None
            said = openai.APIStatusError(str(error), response=error.response, body=body)
            return refusal(said, self._key)
        why = redact(f"the connection failed ({type(error).__name__}: {error})", self._key)
        return CallError(why, "passing", charged=not isinstance(error, UNSENT))
