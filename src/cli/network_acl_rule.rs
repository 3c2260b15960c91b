//! `network acl rule`: single rules of an ACL.

use super::network_acl::named;
use super::{Context, DONE, Outcome, complete, kv};
use crate::error::{Error, Result};
use crate::model::network::acl::AclRule;
use crate::model::view::AclPut;
use crate::ops::network::acl as ops;
use clap::{Args, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCompleter;

/// Manage network ACL rules
///
/// Manage network ACL rules
#[derive(Debug, Subcommand)]
pub enum Rule {
    #[command(visible_alias = "create")]
    Add(Add),
    #[command(visible_aliases = ["delete", "rm"])]
    Remove(Remove),
}

/// Whose way a rule is for, seen from the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Direction {
    Ingress,
    Egress,
}

/// Add rules to an ACL
#[derive(Debug, Args)]
pub struct Add {
    /// ACL
    #[arg(value_name = "ACL", add = ArgValueCompleter::new(complete::acls))]
    pub acl: String,
    /// Direction
    #[arg(value_name = "direction")]
    pub direction: Direction,
    /// Keys and values
    #[arg(value_name = "key=value", required = true, add = ArgValueCompleter::new(complete::acl_rule_fields))]
    pub values: Vec<String>,
    /// Rule description
    #[arg(long, value_name = "description")]
    pub description: Option<String>,
}

/// Remove rules from an ACL
#[derive(Debug, Args)]
pub struct Remove {
    /// ACL
    #[arg(value_name = "ACL", add = ArgValueCompleter::new(complete::acls))]
    pub acl: String,
    /// Direction
    #[arg(value_name = "direction")]
    pub direction: Direction,
    /// Keys and values
    #[arg(value_name = "key=value", add = ArgValueCompleter::new(complete::acl_rule_fields))]
    pub values: Vec<String>,
    /// Remove all rules that match
    #[arg(short, long)]
    pub force: bool,
}

fn rules(put: &mut AclPut, direction: Direction) -> &mut Vec<AclRule> {
    match direction {
        Direction::Ingress => &mut put.ingress,
        Direction::Egress => &mut put.egress,
    }
}

impl Rule {
    /// Runs the command.
    ///
    /// # Errors
    /// See `ops`.
    pub fn run(self, cx: &Context) -> Outcome {
        match self {
            Self::Add(add) => add.run(cx),
            Self::Remove(remove) => remove.run(cx),
        }
    }
}

impl Add {
    fn run(self, cx: &Context) -> Outcome {
        let pairs = cx.values(kv::assignments(&self.values)?)?;
        let mut rule = rule_of(&pairs)?;
        if let Some(description) = self.description.filter(|d| !d.is_empty()) {
            rule.description = description;
        }
        let store = cx.store()?;
        let (project, name) = named(cx, &store, &self.acl)?;
        ops::update(&store, &project, &name, &mut |put| {
            rules(put, self.direction).push(rule.clone());
            Ok(())
        })?;
        Ok(DONE)
    }
}

fn rule_of(pairs: &kv::Pairs) -> Result<AclRule> {
    let mut rule = AclRule::default();
    for (key, value) in pairs {
        value.clone_into(rule.field(key).ok_or_else(|| Error::invalid(format!("Unknown key: {key}")))?);
    }
    let mut rule = rule.normalised();
    if rule.state.is_empty() {
        rule.state = "enabled".to_string();
    }
    Ok(rule)
}

impl Remove {
    fn run(self, cx: &Context) -> Outcome {
        let filters = cx.values(kv::assignments(&self.values)?)?;
        let store = cx.store()?;
        let (project, name) = named(cx, &store, &self.acl)?;
        ops::update(&store, &project, &name, &mut |put| remove(rules(put, self.direction), &filters, self.force))?;
        Ok(DONE)
    }
}

/// Takes the rule away that matches; with `force` all that do.
fn remove(rules: &mut Vec<AclRule>, filters: &kv::Pairs, force: bool) -> Result<()> {
    let mut probe = AclRule::default();
    if let Some((key, _)) = filters.iter().find(|(key, _)| probe.field(key).is_none()) {
        return Err(Error::invalid(format!("Unknown key: {key}")));
    }
    let matches = |rule: &AclRule| {
        let mut rule = rule.clone();
        filters.iter().all(|(key, value)| rule.field(key).is_some_and(|field| field == value))
    };
    match rules.iter().filter(|rule| matches(rule)).count() {
        0 => return Err(Error::not_found("No matching rule(s) found")),
        1 => {}
        _ if force => {}
        _ => return Err(Error::conflict("Multiple rules match. Use --force to remove them all")),
    }
    rules.retain(|rule| !matches(rule));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> kv::Pairs {
        list.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect()
    }

    #[test]
    fn rules_from_words() {
        let rule = rule_of(&pairs(&[("action", " allow"), ("source", "10.0.0.1, 10.0.0.2")])).expect("rule");
        assert_eq!((rule.action.as_str(), rule.source.as_str()), ("allow", "10.0.0.1,10.0.0.2"));
        assert_eq!(rule.state, "enabled");
        assert_eq!(rule_of(&pairs(&[("port", "80")])).expect_err("unknown").to_string(), "Unknown key: port");
    }

    #[test]
    fn removal_takes_one_or_all() {
        let rule = |port: &str| rule_of(&pairs(&[("action", "allow"), ("destination_port", port)])).expect("rule");
        let all = vec![rule("80"), rule("81"), rule("82")];
        let run = |filters: &[(&str, &str)], force| {
            let mut rules = all.clone();
            remove(&mut rules, &pairs(filters), force).map(|()| rules).map_err(|e| e.to_string())
        };
        assert_eq!(run(&[("destination_port", "81")], false), Ok(vec![rule("80"), rule("82")]));
        let several = "Multiple rules match. Use --force to remove them all";
        assert_eq!(run(&[("action", "allow")], false), Err(several.to_string()));
        assert_eq!(run(&[], false), Err(several.to_string()));
        assert_eq!(run(&[("action", "allow")], true), Ok(Vec::new()));
        assert_eq!(run(&[("action", "drop")], true), Err("No matching rule(s) found".to_string()));
        assert_eq!(run(&[("port", "1")], true), Err("Unknown key: port".to_string()));
    }
}
