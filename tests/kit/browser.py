"""Chromium for tests of pages: found or installed, driven by the DevTools protocol, each request and complaint kept.

API
    program() -> str | None                     the browser's path; as root it is installed when there is none
    NotInstalled                                that failed
    INSTALL                                     the one command that installs it
    open_browser(folder) -> Browser             a headless browser with a new profile, gone when the block ends
    Browser.page(width=, height=, is_dark=, has_script=)    an empty page in a session of its own
    Page.goto(url)                              navigate, wait until everything has loaded
    Page.press(selector)                        press a button or link with the mouse, wait for the page that follows
    Page.tab() / Page.key(name)                 one key press
    Page.ask(expression)                        the value of an expression of JavaScript; works without script too
    Page.screenshot(path, whole=)               PNG
    Page.requests / Page.complaints             URLs asked for; errors, warnings and refusals of the console
"""

from __future__ import annotations

import asyncio
import base64
import fcntl
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp

INSTALL = "apt-get install -y --no-install-recommends chromium fonts-dejavu-core"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_BOUND_S = 180.0
_POLL_S = 0.02
_INSTALL_S = 600
_ARGUMENTS = (
    "--headless",
    "--no-sandbox",  # its own sandbox needs user namespaces, which containers and root do not have
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-port=0",
)
_KEYS = {"Tab": 9, "Enter": 13, " ": 32}


class NotInstalled(Exception):
    """The installation of the browser failed."""


@cache
def program() -> str | None:
    """Where the browser is; root installs it when there is none, everybody else gets None.

    Raises:  NotInstalled with the end of the installation's own words.
    """
    found = _found()
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        with (Path(tempfile.gettempdir()) / "outrider-tests-browser.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another run of tests may be installing it
            if _found() is None:
                _install()
        found = _found()
    return found


def _found() -> str | None:
    return next(filter(None, map(shutil.which, _NAMES)), None)


def _install() -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update", "-qq"], INSTALL.split()):
        done = subprocess.run(
            command,
            env=environment,
            check=False,
            timeout=_INSTALL_S,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            raise NotInstalled(f"{' '.join(command)} ended with {done.returncode}: {done.stdout[-500:]}")


@dataclass
class Browser:
    """A running browser and the one connection to it."""

    socket: aiohttp.ClientWebSocketResponse
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _waiting: dict[int, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)
    _pages: dict[str, Page] = field(default_factory=dict)

    async def listen(self) -> None:
        """Hand out answers and events until the connection ends."""
        async for message in self.socket:
            said = message.json()
            waiting = self._waiting.pop(said.get("id", 0), None)
            if waiting is not None and not waiting.done():
                waiting.set_result(said)
            page = self._pages.get(said.get("sessionId", ""))
            if page is not None and "method" in said:
                page.notice(said["method"], said["params"])

    async def call(self, method: str, *, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """One command; fails with what the browser says is wrong."""
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        to = {} if session is None else {"sessionId": session}
        await self.socket.send_json({"id": number, "method": method, "params": parameters, **to})
        said = await asyncio.wait_for(self._waiting[number], _BOUND_S)
        assert "error" not in said, f"{method}: {said['error']}"
        result: dict[str, Any] = said["result"]
        return result

    @asynccontextmanager
    async def page(
        self, *, width: int = 1280, height: int = 800, is_dark: bool = False, has_script: bool = True
    ) -> AsyncIterator[Page]:
        """An empty page of this size, in a session that shares nothing with others."""
        context = (await self.call("Target.createBrowserContext"))["browserContextId"]
        target = (await self.call("Target.createTarget", url="about:blank", browserContextId=context))["targetId"]
        session = (await self.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        page = self._pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Network", "Log"):
            await page.call(f"{domain}.enable")
        await page.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        await page.call("Emulation.setEmulatedMedia", features=[scheme])
        await page.call("Emulation.setScriptExecutionDisabled", value=not has_script)
        try:
            yield page
        finally:
            await self.call("Target.disposeBrowserContext", browserContextId=context)
            del self._pages[session]


@dataclass
class Page:
    """One page: what it asks for and complains about is kept, frames of its own process included."""

    browser: Browser
    session: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    _loaded: asyncio.Event = field(default_factory=asyncio.Event)

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command to this page."""
        return await self.browser.call(method, session=self.session, **parameters)

    def notice(self, method: str, told: dict[str, Any]) -> None:
        """Keep what matters of an event."""
        match method:
            case "Page.loadEventFired":
                self._loaded.set()
            case "Network.requestWillBeSent":
                self.requests.append(told["request"]["url"])
            case "Log.entryAdded" if told["entry"]["level"] in {"warning", "error"}:
                self.complaints.append(told["entry"]["text"])
            case "Runtime.consoleAPICalled" | "Runtime.exceptionThrown":
                self.complaints.append(str(told))

    async def goto(self, url: str) -> None:
        """Open an address and wait until all of it, frames included, has loaded."""
        self._loaded.clear()
        told = await self.call("Page.navigate", url=url)
        assert not told.get("errorText"), f"{url}: {told['errorText']}"
        await self.loaded()

    async def loaded(self) -> None:
        """Wait for the page that a key or a click has asked for."""
        await asyncio.wait_for(self._loaded.wait(), _BOUND_S)
        self._loaded.clear()

    async def press(self, selector: str) -> None:
        """Press the middle of an element with the mouse and wait for the page that follows."""
        box = await self.ask(
            f"(() => {{ const e = document.querySelector({selector!r}); e.scrollIntoView();"
            " const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2] })()"
        )
        self._loaded.clear()
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)
        await self.loaded()

    async def tab(self) -> str:
        """Move the focus on; gives the text of what has it now."""
        await self.key("Tab")
        return str(await self.ask("document.activeElement.innerText || document.activeElement.id"))

    async def key(self, name: str) -> None:
        """Press and let go a key."""
        code = _KEYS[name]
        more = {"key": name, "code": "Space" if name == " " else name, "windowsVirtualKeyCode": code}
        text = {"Enter": {"text": "\r"}, " ": {"text": " "}}.get(name, {})
        await self.call("Input.dispatchKeyEvent", type="keyDown", **more, **text)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **more)

    async def ask(self, expression: str) -> Any:
        """The value of an expression, evaluated beside the page's own script, which may be switched off."""
        told = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    async def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Write what is seen, or the whole length of the page, as PNG."""
        told = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        await asyncio.to_thread(path.write_bytes, base64.b64decode(told["data"]))


@asynccontextmanager
async def open_browser(folder: Path) -> AsyncIterator[Browser]:
    """Run a browser until the block ends; its profile and log are in `folder`."""
    path = program()
    assert path is not None, f"there is no chromium; install it with: {INSTALL}"
    profile = folder / "profile"
    scratch = tempfile.mkdtemp(prefix="outrider-tests-")  # a path short enough for the socket that it puts there
    with (folder / "chromium.log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            path, *_ARGUMENTS, f"--user-data-dir={profile}", "about:blank",
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, "TMPDIR": scratch},
        )  # fmt: skip
    try:
        url = await _address(profile / "DevToolsActivePort", process)
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(url, max_msg_size=0) as socket,
        ):
            browser = Browser(socket)
            listening = asyncio.create_task(browser.listen())
            yield browser
            with suppress(TimeoutError, ConnectionError, AssertionError):
                await asyncio.wait_for(browser.call("Browser.close"), 5)
            await listening
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        shutil.rmtree(scratch, ignore_errors=True)


async def _address(path: Path, process: asyncio.subprocess.Process) -> str:
    """Where the browser listens, which it writes into its profile."""
    async with asyncio.timeout(_BOUND_S):
        while True:
            assert process.returncode is None, f"chromium ended with {process.returncode}"
            port, _, where = _text(path).partition("\n")
            if where:
                return f"ws://127.0.0.1:{port}{where.strip()}"
            await asyncio.sleep(_POLL_S)


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
