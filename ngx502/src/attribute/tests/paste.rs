//! A tired person pastes a fix into a root shell. Whatever processes, units, containers, paths and users are called, nothing of
//! theirs may run: each fix of each case goes through a real shell, with every name on the host turned hostile.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::*;
use crate::event::Record;
use crate::query;
use crate::synthetic::cases;
use crate::synthetic::scene::session;

/// What a name may hold to have a file made that is called so.
const TRAPS: [&str; 8] = [
    "$(: >PWNED)",
    "`: >PWNED`",
    "'; : >PWNED; '",
    "\"; : >PWNED; \"",
    "\n: >PWNED\n",
    " # \r\n: >PWNED #",
    "; : >PWNED;",
    "\\'; : >PWNED; \\'",
];

/// The fields that hold names of the host's or a client's choice.
const NAMES: [&str; 20] = [
    "comm",
    "command",
    "unit",
    "container",
    "name",
    "namespace",
    "pod",
    "path",
    "exe",
    "user",
    "owner",
    "group",
    "label",
    "bound",
    "endpoint",
    "Unix",
    "uri",
    "host",
    "detail",
    "resolved",
];

/// The same record, with the trap in each name.
fn trapped(record: Record, trap: &str) -> Option<Record> {
    let mut value = serde_json::to_value(&record).expect("JSON");
    lay(&mut value, false, trap);
    // Some names must be of a form, which the reader checks.
    serde_json::from_value(value).ok()
}

fn lay(value: &mut Value, is_name: bool, trap: &str) {
    match value {
        Value::String(text) if is_name => *text = with_trap(text, trap),
        // Bytes are numbers there.
        Value::Array(items)
            if is_name && items.iter().all(|item| item.as_u64().is_some_and(|byte| byte < 256)) =>
        {
            let bytes: Vec<u8> = items.iter().filter_map(|item| u8::try_from(item.as_u64()?).ok()).collect();
            let text = with_trap(&String::from_utf8_lossy(&bytes), trap);
            *items = text.bytes().map(Value::from).collect();
        }
        Value::Array(items) => items.iter_mut().for_each(|item| lay(item, false, trap)),
        Value::Object(fields) => {
            for (key, field) in fields {
                lay(field, NAMES.contains(&key.as_str()), trap);
            }
        }
        _ => {}
    }
}

/// The name still begins and ends as it did, since rules look at that.
fn with_trap(name: &str, trap: &str) -> String {
    match name.rfind('.').filter(|_| name.contains(".s")) {
        Some(dot) => [&name[..dot], trap, &name[dot..]].concat(),
        None => [name, trap].concat(),
    }
}

/// Every fix of every case, for each trap.
fn fixes_with(trap: &str) -> Vec<crate::attribute::finding::Fix> {
    let session = session();
    let mut found = Vec::new();
    for (_, play) in cases::all() {
        let mut scene = Scene::new(0);
        play(&mut scene);
        let mut engine = Attributor::new(&session, Options::of(&session));
        let mut out = Vec::new();
        for record in scene.take_records() {
            let mut record = trapped(record.clone(), trap).unwrap_or(record);
            query::cut(&session, &mut record);
            engine.feed(record, &mut out);
        }
        engine.finish(&mut out);
        for outcome in out {
            if let Outcome::Verdict(verdict) | Outcome::Rescued(verdict) = outcome {
                found.extend(verdict.fix());
            }
        }
    }
    found
}

/// What a shell without any program says of a script; nothing but programs that are not there may be missing.
fn pasted(script: &str, directory: &Path) -> String {
    let guarded = format!("enable -n kill\n{script}\n");
    let mut bash = Command::new("/bin/bash");
    let ran = bash
        .args(["--norc", "-c", &guarded])
        .env_clear()
        .env("PATH", "/nonexistent")
        .current_dir(directory)
        .output()
        .expect("bash");
    String::from_utf8_lossy(&ran.stderr).into_owned()
}

#[test]
fn nothing_of_a_strangers_runs_when_a_fix_is_pasted() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut lines = 0;
    for trap in TRAPS {
        let fixes = fixes_with(trap);
        lines += fixes.iter().filter(|fix| fix.to_string().contains("PWNED")).count();
        let mut scripts = BTreeSet::from([fixes.iter().map(|fix| format!("{fix}\n")).collect::<String>()]);
        for width in [40, 80, 200] {
            let rows = fixes.iter().flat_map(|fix| fix.rows(width));
            scripts.insert(rows.map(|row| row + "\n").collect());
        }
        for script in scripts {
            let said = pasted(&script, directory.path());
            assert!(!directory.path().join("PWNED").exists(), "{trap:?} ran: {script}");
            for wrong in ["syntax error", "unexpected EOF", "PWNED"] {
                assert!(!said.contains(wrong), "{trap:?}: {said}");
            }
        }
    }
    assert!(lines > 300, "only {lines} fixes hold a trap");
}
