"""Chromium without a window, driven through chromedriver: what a person does on a page, and what the page then is."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.left_out import find_program
from tests.web_client import TOKEN

WITHIN_S = 30.0
_RUN = Path(__file__).parent / "run.sh"
_PICTURE_PIXELS = 1000
"""Greatest height."""
_CONTROLS = "a[href], button, input, select, summary, [tabindex]"
_VISIBLE_CONTROLS = f"""
const controls = [...document.querySelectorAll("{_CONTROLS}")];
return controls.filter((one) => one.checkVisibility()).map((one) => one.outerHTML);
"""
_FOCUSED = "const one = document.activeElement; return [one.outerHTML, getComputedStyle(one).outlineStyle]"
_SERIOUS = ("serious", "critical")


@dataclass(frozen=True)
class Screen:
    """What a page is shown on."""

    width: int
    height: int
    scheme: str

    def __str__(self) -> str:
        return f"{self.width}-{self.scheme}"


DESKTOP = Screen(1280, 800, "light")
PHONE = Screen(360, 740, "dark")
PICTURE = Screen(1000, 800, "light")
"""For the documentation."""
SCREENS = (DESKTOP, Screen(1280, 800, "dark"), Screen(360, 740, "light"), PHONE)


class Chromium:
    """One browser; :meth:`forget` makes it like new between tests."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def show_on(self, screen: Screen) -> None:
        """Take the size and the colour scheme of a screen."""
        self._command(
            "Emulation.setDeviceMetricsOverride",
            {"width": screen.width, "height": screen.height, "deviceScaleFactor": 1, "mobile": False},
        )
        scheme = [{"name": "prefers-color-scheme", "value": screen.scheme}]
        self._command("Emulation.setEmulatedMedia", {"features": scheme})

    def forget(self) -> None:
        """No page, no cookies, no messages, and the usual screen."""
        self.driver.get("about:blank")
        self._command("Network.clearBrowserCookies", {})
        self.complaints()
        self.show_on(DESKTOP)

    def _command(self, name: str, arguments: Mapping[str, Any]) -> Any:
        return self.driver.execute_cdp_cmd(name, dict(arguments))

    def allow_clipboard(self, url: str) -> None:
        """Let the page at a URL read what was copied; it may write it in any case."""
        permissions = ["clipboardReadWrite", "clipboardSanitizedWrite"]
        self._command("Browser.grantPermissions", {"origin": url.rstrip("/"), "permissions": permissions})

    def open(self, url: str) -> None:
        """Open a page."""
        self.driver.get(url)

    def log_in(self, url: str) -> None:
        """Begin a session of the page at a URL."""
        self.open(f"{url}login")
        self.find("#token").send_keys(TOKEN)
        self.press("form button")
        self.waits_for("Log out")

    def find(self, selector: str) -> WebElement:
        """An element that is there, or comes."""
        return WebDriverWait(self.driver, WITHIN_S).until(lambda driver: driver.find_element(By.CSS_SELECTOR, selector))

    def press(self, selector: str) -> None:
        """Click on an element; on the new one, if the page renews itself just then."""

        def clicked(driver: WebDriver) -> bool:
            driver.find_element(By.CSS_SELECTOR, selector).click()
            return True

        WebDriverWait(self.driver, WITHIN_S, ignored_exceptions=[StaleElementReferenceException]).until(clicked)

    def has(self, selector: str) -> bool:
        """Whether there is such an element now."""
        return bool(self.driver.find_elements(By.CSS_SELECTOR, selector))

    def waits_for(self, text: str) -> None:
        """Wait until the page contains a text that a person sees."""
        WebDriverWait(self.driver, WITHIN_S).until(lambda _: text in self.text, f"{text!r} is not in:\n{self.text}")

    @property
    def text(self) -> str:
        """What a person reads."""
        return str(self.driver.execute_script("return document.body.innerText"))

    def ask(self, script: str, *arguments: object) -> Any:
        """The value of a script in the page."""
        return self.driver.execute_script(script, *arguments)

    def ask_later(self, script: str) -> Any:
        """The value that a script in the page gives to its last argument."""
        self.driver.set_script_timeout(WITHIN_S)
        return self.driver.execute_async_script(script)

    def tab_to(self, selector: str) -> WebElement:
        """Press Tab until an element has the focus."""
        for _ in range(100):
            focused = self.driver.switch_to.active_element
            if self.ask("return arguments[0].matches(arguments[1])", focused, selector):
                return focused
            focused.send_keys(Keys.TAB)
        raise AssertionError(f"Tab does not reach {selector}")

    def accept(self) -> None:
        """Answer a question with yes."""
        WebDriverWait(self.driver, WITHIN_S).until(lambda driver: driver.switch_to.alert).accept()

    def picture(self) -> bytes:
        """The whole page as a PNG."""
        height = self.ask("return document.documentElement.scrollHeight")
        clip = {"x": 0, "y": 0, "width": PICTURE.width, "height": min(height, _PICTURE_PIXELS), "scale": 1}
        taken = self._command("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True, "clip": clip})
        return base64.b64decode(taken["data"])

    def complaints(self) -> list[str]:
        """What the browser complains of since the last time: violations of the policy, errors, missing files."""
        return [str(entry["message"]) for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]

    def faults(self) -> list[str]:
        """What axe-core finds serious in the page."""
        self.ask(_axe())
        found = self.ask_later("axe.run({resultTypes: ['violations']}).then(arguments[arguments.length - 1])")
        return [
            f"{fault['id']}: {node['target']} {node['failureSummary']}"
            for fault in found["violations"]
            for node in fault["nodes"]
            if fault["impact"] in _SERIOUS
        ]

    def shift(self) -> float:
        """How much the layout has shifted since the page was opened (https://web.dev/articles/cls)."""
        return float(
            self.ask_later(
                """
                const done = arguments[arguments.length - 1];
                let shift = 0;
                const seen = (list) => { for (const entry of list.getEntries()) shift += entry.value; };
                new PerformanceObserver(seen).observe({type: "layout-shift", buffered: true});
                requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => done(shift))));
                """
            )
        )

    def unreachable(self) -> list[str]:
        """The controls of the page that Tab does not reach, or that do not show that they have the focus."""
        missing = set(self.ask(_VISIBLE_CONTROLS))
        for _ in range(len(missing) + 1):
            ActionChains(self.driver).send_keys(Keys.TAB).perform()
            name, outline = self.ask(_FOCUSED)
            if outline != "none":
                missing.discard(name)
        return sorted(missing)

    def is_too_wide(self) -> bool:
        """Whether a person has to scroll sideways."""
        return bool(self.ask("return document.documentElement.scrollWidth > innerWidth"))


@cache
def _axe() -> str:
    path = subprocess.run([_RUN, "axe"], check=True, capture_output=True, text=True).stdout.strip()
    return Path(path).read_text("utf-8")


@contextmanager
def started(profile: Path) -> Iterator[Chromium]:
    """A browser; ``profile`` is a folder for its files."""
    options = ChromeOptions()
    options.binary_location = find_program("chromium") or ""
    for argument in (
        "--headless=new",
        "--no-sandbox",  # the tests run as root
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options, ChromeService(find_program("chromedriver")))
    try:
        yield Chromium(driver)
    finally:
        driver.quit()
