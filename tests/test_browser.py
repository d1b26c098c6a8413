"""What a reader does: open a notebook in JupyterLab, run all its cells, move a widget. No other test has a browser."""

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
NOT_YET = (exceptions.NoSuchElementException, exceptions.StaleElementReferenceException,
           exceptions.ElementNotInteractableException, exceptions.ElementClickInterceptedException)  # fmt: skip


@pytest.fixture
def browser(tmp_path):
    """Chromium without a window. Both programs are given: else selenium looks for them in the net, and reports home."""
    programs = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    program, driver = next(filter(None, programs), None), shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("no browser: chromium (or google-chrome) and chromedriver are not on the PATH")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    # Chromium's sandbox is not for root, a container's /dev/shm is small, and nothing but this machine is asked.
    # Its microphone is a beep.
    fake = "use-fake-device-for-media-stream", "use-fake-ui-for-media-stream"
    for option in (
        "headless",
        "no-sandbox",
        "disable-dev-shm-usage",
        "window-size=1400,1000",
        *fake,
    ):
        options.add_argument(f"--{option}")
    options.add_argument(
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"
    )
    with webdriver.Chrome(
        options, webdriver.ChromeService(driver, env=os.environ | {"HOME": str(tmp_path)})
    ) as opened:
        yield opened


@pytest.fixture
def address(tmp_path):
    """Page of a copy of the notebook, with little speech, in a JupyterLab that shares no folder with the user's."""
    minutes, speakers = {"train": 1, "dev": 0.3, "test": 0.3}, {"train": 8, "dev": 4, "test": 4}
    values = {
        "corpus_root": str(synthesise_corpus(tmp_path / "corpus", minutes, speakers)),
        "cores": 1,
    }
    copy = parameterize_notebook(load_notebook_node(str(course.NOTEBOOKS / NOTEBOOK)), values)
    speak = "plots.record(lambda sound: print(f'{len(sound)} samples recorded'), 8000)"  # as notebook 08 has it
    copy.cells.append(nbformat.v4.new_code_cell(speak))
    (tmp_path / "notebooks").mkdir()
    nbformat.write(copy, tmp_path / "notebooks" / NOTEBOOK)
    answers = (
        tmp_path
        / "config/lab/user-settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    )
    answers.parent.mkdir(parents=True)
    answers.write_text('{"fetchNews": "false"}')  # it would ask, on top of the page
    folders = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "share",
        "JUPYTER_RUNTIME_DIR": "running",
    }
    folders |= {"IPYTHONDIR": "ipython", "LTT_DATA": "data"}
    environment = os.environ | {name: str(tmp_path / folder) for name, folder in folders.items()}
    del environment["LTT_BATCH"]  # conftest.py sets it; course.interact makes no widget then
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1"]
    command += [f"--ServerApp.root_dir={tmp_path / 'notebooks'}"]
    with open(tmp_path / "lab.log", "w") as log:
        lab = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )

    def told(lab):
        """The server takes a free port from 8888 on, makes a token, and writes down both."""
        assert lab.poll() is None, (tmp_path / "lab.log").read_text()
        return json.loads((tmp_path / "running" / f"jpserver-{lab.pid}.json").read_text())

    try:
        server = WebDriverWait(
            lab, PATIENCE, ignored_exceptions=(FileNotFoundError, ValueError)
        ).until(told)
        yield f"{server['url']}lab/tree/{NOTEBOOK}?token={server['token']}"
    finally:
        lab.terminate()  # it ends its kernels; after a kill they notice that it is gone
        try:
            lab.wait(30)
        finally:
            lab.kill()


@pytest.mark.slow
def test_a_reader_runs_a_notebook_in_jupyterlab_and_chooses_another_utterance(
    browser, address, tmp_path
):
    def every(selector):
        return browser.find_elements(By.CSS_SELECTOR, selector)

    def text(element):
        return element.get_attribute(
            "textContent"
        )  # element.text is empty where it is out of sight

    def wait(event, condition):
        """Give the condition's value once it is true; a failure leaves a picture of the page."""

        def unless_a_cell_failed(_):
            for told in map(
                text, every(".jp-RenderedText")
            ):  # to JupyterLab, an error is just more of stderr
                if "Traceback (most recent call last)" in told:
                    raise RuntimeError(told)
            return condition()

        waiting = WebDriverWait(browser, PATIENCE, ignored_exceptions=NOT_YET)
        try:
            return waiting.until(unless_a_cell_failed, f"not within {PATIENCE} s")
        except (RuntimeError, exceptions.TimeoutException) as error:
            browser.save_screenshot(tmp_path / "page.png")
            pytest.fail(f"{event}: {error}\nSee {tmp_path / 'page.png'}, and lab.log beside it.")

    def click(label):
        browser.find_element(
            By.XPATH, f"//*[@role='menuitem'][normalize-space()='{label}']"
        ).click()
        return True

    def picture():
        return [image.get_attribute("src") for image in every(".widget-output img")]

    browser.get(address)
    wait(
        "the kernel is there",
        lambda: any("| Idle" in item.text for item in every(".jp-StatusBar-Item")),
    )
    wait("there is a menu", lambda: click("Run"))
    wait("the menu is open", lambda: click("Run All Cells"))
    wait(
        "the last cell has run",
        lambda: any(map(str.isdigit, text(every(".jp-CodeCell .jp-InputPrompt")[-1]))),
    )
    first = wait("there is a picture", picture)
    number = Select(browser.find_element(By.CSS_SELECTOR, ".widget-dropdown select"))
    number.select_by_visible_text("3")
    wait("the picture is another", lambda: picture() not in ([], first))
    number.select_by_visible_text("0")
    wait("the first is back", lambda: picture() == first)

    def button(label):
        browser.find_element(By.XPATH, f"//button[normalize-space()='{label}']").click()
        return True

    def recorded():
        return [
            re.search(r"(\d+) samples recorded", text(item)) for item in every(".widget-output")
        ][-1]

    wait("it records", lambda: button("Record"))
    time.sleep(1)  # of speech
    wait("it stops", lambda: button("Stop"))
    assert int(wait("the recording is heard", recorded)[1]) > 4000
