//! A process with its names as sentences use them: made once for all verdicts that speak of it.

use std::cell::OnceCell;
use std::ops::Deref;
use std::rc::Rc;

use super::verdict::ProcessFacts;
use super::wording;

/// [`ProcessFacts`] with their prose; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Named(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    facts: Rc<ProcessFacts>,
    name: Rc<str>,
    full: Rc<str>,
    restart: OnceCell<Vec<Rc<str>>>,
}

impl Named {
    pub(super) fn new(facts: ProcessFacts) -> Self {
        let (name, full) = (wording::name(&facts).into(), wording::name_unit(&facts).into());
        Self(Rc::new(Inner { facts: Rc::new(facts), name, full, restart: OnceCell::new() }))
    }

    /// `php-fpm[812]`.
    pub(super) fn name(&self) -> &Rc<str> {
        &self.0.name
    }

    /// `php-fpm[812] (pool www, php8.2-fpm.service)`.
    pub(super) fn full(&self) -> &Rc<str> {
        &self.0.full
    }

    /// How to restart it once it is gone, and where its own words are.
    pub(super) fn restart(&self) -> impl Iterator<Item = &Rc<str>> {
        let say = || wording::restart(self).iter().map(|line| line.to_str().into()).collect();
        self.0.restart.get_or_init(say).iter()
    }

    /// The facts, for a verdict.
    pub(super) fn into_facts(self) -> Rc<ProcessFacts> {
        Rc::clone(&self.0.facts)
    }
}

impl Deref for Named {
    type Target = ProcessFacts;

    fn deref(&self) -> &ProcessFacts {
        &self.0.facts
    }
}
