//! A process with its names as sentences use them: made once for all verdicts that speak of it.

use std::ops::Deref;
use std::sync::Arc;

use super::verdict::ProcessFacts;
use super::wording;

/// [`ProcessFacts`] with their prose; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Named {
    facts: Arc<ProcessFacts>,
    name: Arc<str>,
    full: Arc<str>,
}

impl Named {
    pub(super) fn new(facts: ProcessFacts) -> Self {
        let (name, full) = (wording::name(&facts).into(), wording::name_unit(&facts).into());
        Self { facts: Arc::new(facts), name, full }
    }

    /// `php-fpm[812]`.
    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// `php-fpm[812] (pool www, php8.2-fpm.service)`.
    pub(super) fn full(&self) -> &Arc<str> {
        &self.full
    }

    /// The facts, for a verdict.
    pub(super) fn into_facts(self) -> Arc<ProcessFacts> {
        self.facts
    }
}

impl Deref for Named {
    type Target = ProcessFacts;

    fn deref(&self) -> &ProcessFacts {
        &self.facts
    }
}
