//! A shell in a replica, in the browser: what is typed is done there, and its end is said.

use fixtures::Page;

use super::{Stage, look};

const STATE: &str = "document.getElementById('shell-state').textContent";

/// Types a line as a person does.
fn line(page: &Page, text: &str) {
    page.write(text);
    page.press("Enter");
}

fn says(page: &Page, words: &str) {
    let script = format!("document.querySelector('.term .screen').innerText.includes({words:?})");
    page.until(words, &script);
}

/// `page`: of who owns the job `journey`.
pub fn in_the_browser(stage: &Stage, page: &Page) {
    page.go("/jobs/journey");
    page.follow(".tabs a[href$='/shell']");
    page.until("a shell", &format!("{STATE} === 'Live'"));
    // Not what was typed, but what came of it.
    line(page, "echo he''llo from $((40 + 2))");
    says(page, "hello from 42");
    line(
        page,
        "printf '\\033[31mred\\033[0m\\n'; stty size; echo $TERM",
    );
    says(page, "xterm-256color");
    assert_eq!(page.eval("!!document.querySelector('.term .f1')"), true);
    let rows = page.eval("document.querySelectorAll('.term .screen > div').length");
    assert!(rows.as_u64().is_some_and(|rows| rows > 10), "{rows}");
    let size = page.text(".term .screen");
    assert!(size.contains(&format!("{rows} ")), "{size}");
    // A window of another size is one for the command too.
    page.sized(700, 700);
    page.until(
        "fewer rows",
        &format!("document.querySelectorAll('.term .screen > div').length < {rows}"),
    );
    line(page, "clear; stty size");
    page.until(
        "the new size",
        "document.querySelector('.term .screen').innerText.includes(document.querySelectorAll('.term .screen > div').length + ' ')",
    );
    page.sized(1440, 900);
    // More than a browser draws at once comes whole, in its order.
    line(
        page,
        "i=0; while [ $i -lt 40000 ]; do echo line $i; i=$((i+1)); done",
    );
    says(page, "line 39999");
    // A mark-up is a text, and a line that waits is broken off.
    line(page, "echo '<img src=x onerror=alert(1)>'; sleep 1000");
    says(page, "onerror=alert(1)>\n");
    page.command(
        "Input.dispatchKeyEvent",
        serde_json::json!({ "type": "keyDown", "key": "c", "code": "KeyC", "modifiers": 2, "windowsVirtualKeyCode": 67 }),
    );
    line(page, "echo on$((1))");
    says(page, "on1");
    look::here(stage, page, "shell");
    page.eval("document.querySelector('.term .keys').focus()");
    line(page, "exit 7");
    page.until("its end", &format!("{STATE} === 'Ended with exit code 7'"));
    page.click(".shell-head button");
    page.until("another", &format!("{STATE} === 'Live'"));
    look::check(page, "/jobs/journey/shell");
    let faults = page.faults(&[]);
    assert!(faults.is_empty(), "{faults:?}");
}
