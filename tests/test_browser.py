"""A reader opens a notebook in JupyterLab, runs all its cells, moves a widget: in a browser."""

import json
import os
import re
import shutil
import subprocess
import sys
import time

import nbformat
import pytest
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from selenium import webdriver
from selenium.common import exceptions
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from lttlib import course
from lttlib.speech import synthesise_corpus

NOTEBOOK = "01_features.ipynb"  # needs no trained model, and has a widget
PATIENCE = 180  # s for each step; all of them together take a fifth of it
NOT_YET = (
    exceptions.NoSuchElementException,
    exceptions.StaleElementReferenceException,
    exceptions.ElementNotInteractableException,
    exceptions.ElementClickInterceptedException,
)
# Chromium's sandbox is not for root, a container's /dev/shm is small, and nothing but this machine
# is asked. Its microphone is a beep.
OPTIONS = (
    "headless",
    "no-sandbox",
    "disable-dev-shm-usage",
    "window-size=1400,1000",
    "use-fake-device-for-media-stream",
    "use-fake-ui-for-media-stream",
    "host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
)


@pytest.fixture
def browser(tmp_path):
    """Chromium without a window.

    Both programs are given: else selenium looks for them in the net, and reports home.
    """
    programs = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    program, driver = next(filter(None, programs), None), shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("no browser: chromium (or google-chrome) and chromedriver are not on the PATH")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for option in OPTIONS:
        options.add_argument(f"--{option}")
    service = webdriver.ChromeService(driver, env=os.environ | {"HOME": str(tmp_path)})
    with webdriver.Chrome(options, service) as browser:
        yield browser


def write_copy(folder):
    """A copy of the notebook with little speech, and with a button to record some."""
    minutes = {"train": 1, "dev": 0.3, "test": 0.3}
    speakers = {"train": 8, "dev": 4, "test": 4}
    corpus = synthesise_corpus(folder / "corpus", minutes, speakers)
    notebook = load_notebook_node(str(course.NOTEBOOKS / NOTEBOOK))
    copy = parameterize_notebook(notebook, {"corpus_root": str(corpus), "cores": 1})
    # As notebook 08 has it.
    record = "plots.record(lambda sound: print(f'{len(sound)} samples recorded'), 8000)"
    copy.cells.append(nbformat.v4.new_code_cell(record))
    (folder / "notebooks").mkdir()
    nbformat.write(copy, folder / "notebooks" / NOTEBOOK)


def lab_environment(folder):
    """Variables of a JupyterLab that shares no folder with that of the user."""
    settings = folder / "config" / "lab" / "user-settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    # It would ask, on top of the page.
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')
    folders = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "share",
        "JUPYTER_RUNTIME_DIR": "running",
        "IPYTHONDIR": "ipython",
        "LTT_DATA": "data",
    }
    environment = os.environ | {name: str(folder / part) for name, part in folders.items()}
    del environment["LTT_BATCH"]  # conftest.py sets it; plots.interact makes no widget then
    return environment


@pytest.fixture
def address(tmp_path):
    """Address of the page of the copy, in a JupyterLab of its own."""
    write_copy(tmp_path)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1"]
    command += [f"--ServerApp.root_dir={tmp_path / 'notebooks'}"]
    environment = lab_environment(tmp_path)
    with open(tmp_path / "lab.log", "w") as log:
        lab = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )

    def server_info(lab):
        """The server takes a free port from 8888 on, makes a token, and writes down both."""
        assert lab.poll() is None, (tmp_path / "lab.log").read_text()
        return json.loads((tmp_path / "running" / f"jpserver-{lab.pid}.json").read_text())

    absent = (FileNotFoundError, ValueError)
    try:
        server = WebDriverWait(lab, PATIENCE, ignored_exceptions=absent).until(server_info)
        yield f"{server['url']}lab/tree/{NOTEBOOK}?token={server['token']}"
    finally:
        lab.terminate()  # it ends its kernels; after a kill they notice that it is gone
        try:
            lab.wait(30)
        finally:
            lab.kill()


class Page:
    """A notebook in JupyterLab."""

    def __init__(self, browser, folder):
        self.browser = browser
        self.folder = folder

    def elements(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def texts(self, selector):
        """Texts of elements, also where they are out of sight: element.text would be empty."""
        return [element.get_attribute("textContent") for element in self.elements(selector)]

    def wait(self, event, condition):
        """Return the condition's value once it is true; a failure leaves a picture of the page."""

        def unless_a_cell_failed(_):
            # To JupyterLab, an error is just more of stderr.
            for text in self.texts(".jp-RenderedText"):
                if "Traceback (most recent call last)" in text:
                    raise RuntimeError(text)
            return condition()

        waiting = WebDriverWait(self.browser, PATIENCE, ignored_exceptions=NOT_YET)
        try:
            return waiting.until(unless_a_cell_failed, f"not within {PATIENCE} s")
        except (RuntimeError, exceptions.TimeoutException) as error:
            picture = self.folder / "page.png"
            self.browser.save_screenshot(picture)
            pytest.fail(f"{event}: {error}\nSee {picture}, and lab.log beside it.")

    def click(self, path):
        self.browser.find_element(By.XPATH, path).click()
        return True

    def click_menu(self, label):
        return self.click(f"//*[@role='menuitem'][normalize-space()='{label}']")

    def click_button(self, label):
        return self.click(f"//button[normalize-space()='{label}']")

    def is_idle(self):
        return any("| Idle" in text for text in self.texts(".jp-StatusBar-Item"))

    def has_run(self):
        prompt = self.texts(".jp-CodeCell .jp-InputPrompt")[-1]
        return any(character.isdigit() for character in prompt)

    def pictures(self):
        return [image.get_attribute("src") for image in self.elements(".widget-output img")]

    def recorded(self):
        return re.search(r"(\d+) samples recorded", self.texts(".widget-output")[-1])


@pytest.mark.slow
def test_notebook_runs_in_jupyterlab_and_redraws_for_another_utterance(browser, address, tmp_path):
    page = Page(browser, tmp_path)
    browser.get(address)
    page.wait("the kernel is there", page.is_idle)
    page.wait("there is a menu", lambda: page.click_menu("Run"))
    page.wait("the menu is open", lambda: page.click_menu("Run All Cells"))
    page.wait("the last cell has run", page.has_run)
    first = page.wait("there is a picture", page.pictures)
    number = Select(browser.find_element(By.CSS_SELECTOR, ".widget-dropdown select"))
    number.select_by_visible_text("3")
    page.wait("the picture is another", lambda: page.pictures() not in ([], first))
    number.select_by_visible_text("0")
    page.wait("the first is back", lambda: page.pictures() == first)

    page.wait("it records", lambda: page.click_button("Record"))
    time.sleep(1)  # of speech
    page.wait("it stops", lambda: page.click_button("Stop"))
    recorded = page.wait("the recording is there", page.recorded)
    assert int(recorded[1]) > 4000
