//! The page in a real headless Chromium: it fits a phone, is dark where that is preferred but never on paper, loads nothing
//! and runs nothing.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde::Deserialize;

use crate::report::{html, synthetic};

/// What the browser measured of a page in a frame as wide as a phone.
#[derive(Debug, Deserialize)]
struct Measured {
    /// `scrollWidth` of the document; more than the frame's width means that a reader has to scroll sideways.
    width: u32,
    /// Elements that run or load something.
    active: u32,
    /// Its title.
    title: String,
    /// Pictures shown, of the two that each figure has.
    pictures: u32,
    figures: u32,
    /// Tables that a reader has to scroll sideways.
    scrolling: u32,
    /// Of the body, to tell that the style applied.
    colours: Colours,
    /// The same under the rules for paper alone.
    printed: Colours,
}

/// Colours as the browser computes them.
#[derive(Debug, Deserialize, PartialEq, Eq)]
struct Colours {
    background: String,
    text: String,
    /// Of the words in charts.
    chart: String,
}

impl Colours {
    fn are(&self, background: &str, ink: &str) -> bool {
        self.background == background && self.text == ink && self.chart == ink
    }
}

/// The narrowest phone in use.
const PHONE: u32 = 360;

/// What the browser's user prefers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Dark,
    Light,
}

const PAPER: (&str, &str) = ("rgb(255, 255, 255)", "rgb(34, 34, 34)");
const NIGHT: (&str, &str) = ("rgb(22, 24, 27)", "rgb(232, 230, 227)");

/// A browser that is missing skips the tests, saying so; one that is there must work.
fn browser() -> Option<&'static str> {
    let found = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| {
        Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    });
    if found.is_none() {
        println!("skipped: no chromium in PATH, so the page was not opened in a browser");
    }
    found
}

/// Opens a file and returns the document after its scripts ran.
fn dump(browser: &str, file: &Path, scheme: Scheme) -> String {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new("timeout")
        .args([
            "60",
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
        ])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--blink-settings=preferredColorScheme={}", u8::from(scheme == Scheme::Light)))
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(["--virtual-time-budget=10000", "--dump-dom"])
        .arg(format!("file://{}", file.display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Shows `page` in a frame and measures it from outside, since the page itself has no script.
fn measure(browser: &str, page: &str, width: u32, scheme: Scheme) -> Measured {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("outer.html");
    let quoted = serde_json::to_string(page).unwrap().replace('<', "\\u003c");
    let outer = format!(
        "<!DOCTYPE html><meta charset=utf-8><body><pre id=result></pre><script>
        const frame = document.createElement('iframe');
        frame.style = 'width:{width}px;height:800px;border:0';
        const colours = inner => {{
            const style = element => element ? frame.contentWindow.getComputedStyle(element) : {{}};
            const body = style(inner.body);
            const word = style(inner.querySelector('figure svg text'));
            return {{background: body.backgroundColor, text: body.color, chart: word.fill ?? ''}};
        }};
        // A frame is never printed, so its rules for paper are made to hold, and those for screens to hold nowhere.
        const print = inner => {{
            for (const sheet of inner.styleSheets) for (const rule of sheet.cssRules) if (rule.media) {{
                if (rule.media.mediaText.includes('print')) rule.media.mediaText = 'all';
                else if (rule.media.mediaText.includes('screen')) rule.media.mediaText = 'not all';
            }}
            return colours(inner);
        }};
        frame.onload = () => {{
            const inner = frame.contentDocument;
            const shown = [...inner.querySelectorAll('figure > svg')].filter(svg => svg.getClientRects().length);
            const measured = JSON.stringify({{
                width: inner.documentElement.scrollWidth,
                active: inner.querySelectorAll('script,img,iframe,object,embed,link,[onerror],[onload]').length,
                title: inner.title,
                pictures: shown.length,
                figures: inner.querySelectorAll('figure').length,
                scrolling: [...inner.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth).length,
                colours: colours(inner),
                printed: print(inner),
            }});
            // No text of a page can break the result's markup.
            document.getElementById('result').textContent = measured.replace(/[^ -~]|[<>&]/g,
                unit => '\\\\u' + unit.charCodeAt(0).toString(16).padStart(4, '0'));
        }};
        frame.srcdoc = {quoted};
        document.body.append(frame);
        </script>"
    );
    std::fs::write(&file, outer).unwrap();
    let document = dump(browser, &file, scheme);
    let (_, rest) = document.split_once("<pre id=\"result\">").unwrap();
    let (result, _) = rest.split_once("</pre>").unwrap();
    serde_json::from_str(result).unwrap_or_else(|error| panic!("{error} in `{result}`"))
}

#[test]
fn the_page_fits_a_phone_and_a_desktop() {
    let Some(browser) = browser() else { return };
    let page = html::render(&synthetic::incident(3_000));
    for (width, scheme, (background, ink)) in
        [(PHONE, Scheme::Light, PAPER), (PHONE, Scheme::Dark, NIGHT), (1_200, Scheme::Dark, NIGHT)]
    {
        let measured = measure(browser, &page, width, scheme);
        assert!(measured.width <= width, "{measured:?} is wider than {width}");
        assert_eq!(measured.scrolling, 0, "{measured:?} has tables wider than {width}");
        assert!(measured.colours.are(background, ink), "{scheme:?}: {measured:?}");
        assert!(measured.printed.are(PAPER.0, PAPER.1), "{scheme:?}, on paper: {measured:?}");
        assert_eq!((measured.active, measured.pictures, measured.figures), (0, 4, 4), "{measured:?}");
        assert_eq!(measured.title, "Upstream failures, 2026-11-21");
    }
    // The measurement itself must be able to fail.
    let bad = "<!DOCTYPE html><title>x</title><style>@media print{body{background:#000}}</style><div style='width:900px'>x</div>\
               <div class=scroll style='overflow-x:auto;width:90px'><p style='width:91px'>x</div>";
    let bad = measure(browser, bad, PHONE, Scheme::Light);
    assert!(bad.width >= 900 && bad.scrolling == 1 && bad.printed.background == "rgb(0, 0, 0)", "{bad:?}");
}

#[test]
fn hostile_text_neither_runs_nor_loads_nor_widens_the_page() {
    let Some(browser) = browser() else { return };
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/x", server.local_addr().unwrap());
    let hostile = format!(
        "\"'><img src={url}><script src={url}></script><style>@import url({url});body{{background:url({url})}}</style>\
         <meta http-equiv=refresh content=\"0;url={url}\"><link rel=stylesheet href={url}></title><title>owned</title>{}",
        "x".repeat(600)
    );
    let visits = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&visits);
    // Each visitor is counted and hung up on; the thread ends with the test's process.
    thread::spawn(move || server.incoming().for_each(|_| _ = counted.fetch_add(1, Ordering::SeqCst)));
    let measured = measure(browser, &html::render(&synthetic::hostile_as(&hostile)), PHONE, Scheme::Light);
    assert_eq!(
        (measured.active, measured.title.as_str()),
        (0, "Upstream failures, 2026-11-21"),
        "{measured:?}"
    );
    assert!(measured.width <= PHONE && measured.scrolling == 0, "{measured:?}");
    assert_eq!(visits.load(Ordering::SeqCst), 0, "the page loaded something");
    // The same text unescaped does load: the test can fail.
    measure(browser, &format!("<!DOCTYPE html><title>x</title><img src={url}>"), PHONE, Scheme::Light);
    assert_ne!(visits.load(Ordering::SeqCst), 0, "the server would not have noticed");
}
