//! `profile add`, `profile remove` and `profile assign`: which profiles an instance has.

use super::complete;
use super::{Context, DONE, Outcome, config, kv};
use crate::error::{Error, Result};
use crate::ops::update::{self, Edit};
use clap::Args;
use clap_complete::engine::ArgValueCompleter;

/// Add profiles to instances
#[derive(Debug, Args)]
pub struct Add {
    /// Instance
    #[arg(value_name = "instance", add = ArgValueCompleter::new(complete::instances))]
    pub instance: String,
    /// Profile
    #[arg(value_name = "profile", add = ArgValueCompleter::new(complete::profiles))]
    pub profile: String,
}

/// Remove profiles from instances
#[derive(Debug, Args)]
pub struct Remove {
    /// Instance
    #[arg(value_name = "instance", add = ArgValueCompleter::new(complete::instances))]
    pub instance: String,
    /// Profile
    #[arg(value_name = "profile", add = ArgValueCompleter::new(complete::profiles))]
    pub profile: String,
}

/// Assign sets of profiles to instances
#[derive(Debug, Args)]
#[command(after_help = "stapes profile assign foo default bar
    Set the profiles for \"foo\" to \"default\" and \"bar\".

stapes profile assign foo default
    Reset \"foo\" to only using the \"default\" profile.

stapes profile assign foo --no-profiles
    Remove all profile assigned to \"foo\"")]
pub struct Assign {
    /// Instance
    #[arg(value_name = "instance", add = ArgValueCompleter::new(complete::instances))]
    pub instance: String,
    /// Profiles
    #[arg(
        value_name = "profile",
        required_unless_present = "no_profiles",
        add = ArgValueCompleter::new(complete::profiles)
    )]
    pub profiles: Vec<String>,
    /// Remove all profiles from the instance
    #[arg(long)]
    pub no_profiles: bool,
}

/// Changes the list of profiles of an instance.
fn change(cx: &Context, name: &str, edit: &mut dyn FnMut(&mut Vec<String>) -> Result<()>) -> Result<()> {
    let store = cx.store()?;
    let (project, name) = config::instance(cx, &store, name)?;
    update::update(&store, &project, &name, &mut |change: &mut Edit<'_>| edit(&mut change.put.profiles))
}

impl Add {
    /// Adds the profile behind the others.
    ///
    /// # Errors
    /// See `ops`.
    pub fn run(self, cx: &Context) -> Outcome {
        let name = kv::local(&self.instance)?;
        change(cx, &name, &mut |profiles| {
            profiles.push(self.profile.clone());
            Ok(())
        })?;
        cx.notice(format_args!("Profile {} added to {name}", self.profile))?;
        Ok(DONE)
    }
}

impl Remove {
    /// Takes the profile away.
    ///
    /// # Errors
    /// See `ops`.
    pub fn run(self, cx: &Context) -> Outcome {
        let name = kv::local(&self.instance)?;
        change(cx, &name, &mut |profiles| {
            if !profiles.contains(&self.profile) {
                return Err(Error::invalid(format!("Profile {} isn't currently applied to {name}", self.profile)));
            }
            profiles.retain(|p| *p != self.profile);
            Ok(())
        })?;
        cx.notice(format_args!("Profile {} removed from {name}", self.profile))?;
        Ok(DONE)
    }
}

impl Assign {
    /// Replaces the profiles.
    ///
    /// # Errors
    /// See `ops`.
    pub fn run(self, cx: &Context) -> Outcome {
        let name = kv::local(&self.instance)?;
        if self.no_profiles && !self.profiles.is_empty() {
            return Err(Error::invalid("--no-profiles cannot be used together with other arguments").into());
        }
        change(cx, &name, &mut |profiles| {
            profiles.clone_from(&self.profiles);
            Ok(())
        })?;
        match self.no_profiles {
            true => cx.notice(format_args!("All profiles removed from {name}"))?,
            false => cx.notice(format_args!("Profiles {} applied to {name}", self.profiles.join(",")))?,
        }
        Ok(DONE)
    }
}
