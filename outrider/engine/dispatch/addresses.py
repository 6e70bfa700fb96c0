"""The addresses in a message that lead back to us: to leave, to choose, to read in a browser, to notice what is read.

Owns putting them together; what they do is the API's. Nothing of a recipient stands in one but the message's id.
"""

from __future__ import annotations

from outrider.base.signing import ReturnSigner, TrackingSigner
from outrider.contracts.channel import Composer, Identity, Item
from outrider.contracts.gate import Lane
from outrider.data.runtime import Runtime
from outrider.domain.signup.links import Links
from outrider.engine.dispatch.batch import Claimed


class Addresses:
    """Makes what a composer needs of one message."""

    def __init__(self, runtime: Runtime) -> None:
        self._base = runtime.settings.public_url
        self._unsubscribe = runtime.unsubscribe_links
        self._links = Links(runtime.keyring)
        self._returns = ReturnSigner(runtime.keyring.derive("returns"))
        self._signer = TrackingSigner(runtime.keyring.derive("tracking"))

    def item(self, lane: Lane, composer: Composer, claimed: Claimed, identity: Identity, number: str = "") -> Item:
        """One recipient; what the composer does not ask for stays empty, what the sender has no base for is ours."""
        base, tenant_id = identity.public_url or self._base, lane.tenant_id
        tracked = identity.tracking_url or base
        item = Item(claimed.id, claimed.address, claimed.variables, claimed.dated_at, from_address=number)
        if identity.return_path.startswith("*@"):
            item.return_address = f"{self._returns.sign(tenant_id, claimed.id)}{identity.return_path[1:]}"
        is_bulk = lane.message_class == "bulk"
        if is_bulk:
            item.unsubscribe_url = f"{base}/u/{self._unsubscribe.sign(tenant_id, claimed.id)}"
        if composer.links:
            keys = [link.key for link in composer.links]
            tokens = self._signer.signed(TrackingSigner.CLICK, tenant_id, claimed.id, keys)
            item.click_urls = tuple([f"{tracked}/t/c/{token}" for token in tokens])
        if composer.has_pixel:
            (token,) = self._signer.signed(TrackingSigner.OPEN, tenant_id, claimed.id)
            item.open_url = f"{tracked}/t/o/{token}.gif"
        if composer.has_web_version:
            (token,) = self._signer.signed(TrackingSigner.VIEW, tenant_id, claimed.id)
            item.web_version_url = f"{base}/w/{token}"
        if composer.has_preferences or (is_bulk and composer.has_preferences_footer):
            item.preferences_url = f"{base}{self._links.path('preferences', tenant_id, claimed.id)}"
        return item
