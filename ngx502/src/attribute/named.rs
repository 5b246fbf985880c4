//! A process with its names as sentences use them: made once for all verdicts that speak of it.

use std::ops::Deref;
use std::rc::Rc;

use super::verdict::ProcessFacts;
use super::wording;

/// [`ProcessFacts`] with their prose; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Named {
    facts: Rc<ProcessFacts>,
    name: Rc<str>,
    full: Rc<str>,
}

impl Named {
    pub(super) fn new(facts: ProcessFacts) -> Self {
        let (name, full) = (wording::name(&facts).into(), wording::name_unit(&facts).into());
        Self { facts: Rc::new(facts), name, full }
    }

    /// `php-fpm[812]`.
    pub(super) fn name(&self) -> &Rc<str> {
        &self.name
    }

    /// `php-fpm[812] (pool www, php8.2-fpm.service)`.
    pub(super) fn full(&self) -> &Rc<str> {
        &self.full
    }

    /// The facts, for a verdict.
    pub(super) fn into_facts(self) -> Rc<ProcessFacts> {
        self.facts
    }
}

impl Deref for Named {
    type Target = ProcessFacts;

    fn deref(&self) -> &ProcessFacts {
        &self.facts
    }
}
