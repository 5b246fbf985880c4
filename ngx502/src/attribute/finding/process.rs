//! Processes as sentences and JSON name them.

use std::fmt::{self, Display as _};

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::say;
use crate::attribute::verdict::ProcessFacts;
use crate::event::ContainerNames;

impl ProcessFacts {
    /// `php-fpm[812]`.
    pub(super) fn name(&self) -> impl fmt::Display {
        fmt::from_fn(|f| {
            if self.comm.is_empty() {
                return write!(f, "process {}", self.pid);
            }
            say(f, &[&self.comm, "[", itoa::Buffer::new().format(self.pid.0), "]"])
        })
    }

    /// `php-fpm[812] (pool www, php8.2-fpm.service)`.
    pub(super) fn full(&self) -> impl fmt::Display {
        fmt::from_fn(|f| {
            self.name().fmt(f)?;
            let mut separator = " (";
            let mut next = || std::mem::replace(&mut separator, ", ");
            if let Some(pool) = &self.pool {
                say(f, &[next(), "pool ", pool])?;
            }
            if let Some(unit) = &self.unit {
                say(f, &[next(), unit])?;
            }
            if let Some(container) = self.container_as_said() {
                write!(f, "{}container {container}", next())?;
            }
            f.write_str(if separator == ", " { ")" } else { "" })
        })
    }

    /// `container api`, where it is in one; else its own name.
    pub(super) fn home(&self) -> impl fmt::Display {
        fmt::from_fn(|f| match self.container_as_said() {
            Some(container) => write!(f, "container {container}"),
            None => self.name().fmt(f),
        })
    }

    /// `web`, `php of pod shop/web-7d9f`, `3f4a1b2c3d4e`.
    fn container_as_said(&self) -> Option<impl fmt::Display> {
        let id = self.container.as_deref().map(|id| id.get(..12).unwrap_or(id));
        let names = self.container_names.as_ref();
        let name = names.and_then(|names| names.name.as_deref()).or(id)?;
        let pod = names.and_then(|names| names.pod.as_ref());
        Some(fmt::from_fn(move |f| match pod {
            Some(pod) => write!(f, "{name} of pod {}/{}", pod.namespace, pod.name),
            None => f.write_str(name),
        }))
    }
}

/// A process that may not be known, as a sentence's subject.
pub(super) fn full_or<'a>(process: Option<&'a ProcessFacts>, otherwise: &'a str) -> impl fmt::Display + 'a {
    fmt::from_fn(move |f| match process {
        Some(process) => process.full().fmt(f),
        None => f.write_str(otherwise),
    })
}

/// As JSON shows a process, in `upstream.process` and in `details`.
impl Serialize for ProcessFacts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut process = serializer.serialize_struct("process", 6)?;
        process.serialize_field("pid", &self.pid)?;
        process.serialize_field("comm", &self.comm)?;
        process.serialize_field("unit", &self.unit.as_deref())?;
        process.serialize_field("container", &self.container)?;
        let name = self.container_names.as_ref().and_then(ContainerNames::label);
        process.serialize_field("container_name", &name)?;
        process.serialize_field("pool", &self.pool)?;
        process.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Pid, PodName};

    #[test]
    fn a_process_has_the_names_people_use() {
        let who = ProcessFacts {
            pid: Pid(812),
            comm: "php-fpm".into(),
            unit: Some("php8.2-fpm.service".into()),
            pool: Some("www".into()),
            ..ProcessFacts::default()
        };
        assert_eq!(who.full().to_string(), "php-fpm[812] (pool www, php8.2-fpm.service)");
        assert_eq!(ProcessFacts { unit: None, pool: None, ..who }.full().to_string(), "php-fpm[812]");
        assert_eq!(ProcessFacts::default().name().to_string(), "process 0");
        let inside = ProcessFacts { container: Some("0123456789abcdef".into()), ..ProcessFacts::default() };
        assert_eq!(inside.full().to_string(), "process 0 (container 0123456789ab)");
        let names = ContainerNames { runtime: None, name: Some("php".into()), pod: None };
        let named = ProcessFacts { container_names: Some(names.clone()), ..inside.clone() };
        assert_eq!(named.full().to_string(), "process 0 (container php)");
        let pod = PodName { namespace: "shop".into(), name: "web-7d9f".into() };
        let names = Some(ContainerNames { pod: Some(pod), ..names });
        let of_pod = ProcessFacts { container_names: names, ..inside };
        assert_eq!(of_pod.full().to_string(), "process 0 (container php of pod shop/web-7d9f)");
    }
}
