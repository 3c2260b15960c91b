//! Records of DNS zones, each in a folder with those of the names the user put into it:
//! `projects/<p>/zones/<zone>/{zone.toml,records/<name>.toml}`.

use super::Store;
use super::atomic::Durability;
use super::dir;
use super::layout::rel;
use super::lock::{Exclusive, Held, ProjectKey};
use super::objects::in_folders;
use super::record::{self, Record, records};
use super::trash;
use crate::base::names::{ProjectName, ZoneName, ZoneRecordName};
use crate::error::{Context, Result};
use crate::model::network::zone::{Zone, ZoneRecord};

records! {
    Zone => "Network zone record",
    ZoneRecord => "Record of a network zone",
}

const SUFFIX: &str = ".toml";

impl Store {
    /// A zone; `None` if there is none.
    ///
    /// # Errors
    /// The record is damaged or cannot be read.
    pub fn zone(&self, p: &ProjectName, z: &ZoneName) -> Result<Option<Zone>> {
        self.state.as_ref().map_or(Ok(None), |state| record::read(state, rel::zone(p, z)))
    }

    /// All zones of a project by name.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn zones(&self, p: &ProjectName) -> Result<Vec<(ZoneName, Result<Zone>)>> {
        let list = |state| in_folders(state, &rel::zones(p), rel::ZONE_FILE, ZoneName::parse);
        self.state.as_ref().map_or(Ok(Vec::new()), list)
    }

    /// Creates or replaces a zone's record.
    ///
    /// # Errors
    /// An I/O error.
    pub fn save_zone(&self, lock: &Held<ProjectKey, Exclusive>, z: &ZoneName, zone: &Zone) -> Result<()> {
        let (state, p) = (self.state_mut()?, &lock.key().0);
        if self.zone(p, z).is_ok_and(|found| found.is_none()) {
            // What a killed deletion left of one of the same name.
            self.clear_zone(p, z)?;
        }
        state.make_all(rel::zone_records(p, z), 0o700).with_context(|| format!("Failed writing zone \"{z}\""))?;
        record::write(state, rel::zone(p, z), zone, Durability::Durable)
    }

    /// Removes a zone with its records; its own goes first.
    ///
    /// # Errors
    /// An I/O error.
    pub fn delete_zone(&self, lock: &Held<ProjectKey, Exclusive>, z: &ZoneName) -> Result<()> {
        let p = &lock.key().0;
        let gone = self.state_mut()?.unlink_durable(rel::zone(p, z));
        gone.with_context(|| format!("Failed deleting zone \"{z}\""))?;
        self.clear_zone(p, z)
    }

    fn clear_zone(&self, p: &ProjectName, z: &ZoneName) -> Result<()> {
        let fail = || format!("Failed deleting zone \"{z}\"");
        let (state, at) = (self.state_mut()?, rel::zone_dir(p, z));
        if !state.exists(&at).with_context(fail)? {
            return Ok(());
        }
        let (above, file) = state.parent(&at).with_context(fail)?;
        trash::remove_tree(&above, file).map(drop).with_context(fail)
    }

    /// What the user put under a name of a zone; `None` if nothing.
    ///
    /// # Errors
    /// The record is damaged or cannot be read.
    pub fn zone_record(&self, p: &ProjectName, z: &ZoneName, n: &ZoneRecordName) -> Result<Option<ZoneRecord>> {
        self.state.as_ref().map_or(Ok(None), |state| record::read(state, rel::zone_record(p, z, n)))
    }

    /// All that the user put into a zone, by name.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn zone_records(&self, p: &ProjectName, z: &ZoneName) -> Result<Vec<(ZoneRecordName, Result<ZoneRecord>)>> {
        let Some(state) = &self.state else { return Ok(Vec::new()) };
        let Some((folder, names)) = dir::list(state, rel::zone_records(p, z))? else { return Ok(Vec::new()) };
        let read = |name: String| {
            let record = ZoneRecordName::parse(name.strip_suffix(SUFFIX)?).ok()?;
            Some((record, record::read(&folder, &name).transpose()?))
        };
        Ok(names.into_iter().filter_map(read).collect())
    }

    /// Creates or replaces what stands under a name of a zone.
    ///
    /// # Errors
    /// An I/O error.
    pub fn save_zone_record(
        &self,
        lock: &Held<ProjectKey, Exclusive>,
        z: &ZoneName,
        (n, zone_record): (&ZoneRecordName, &ZoneRecord),
    ) -> Result<()> {
        let at = rel::zone_record(&lock.key().0, z, n);
        record::write(self.state_mut()?, at, zone_record, Durability::Durable)
    }

    /// Removes what stands under a name of a zone; false if nothing does.
    ///
    /// # Errors
    /// An I/O error.
    pub fn delete_zone_record(
        &self,
        lock: &Held<ProjectKey, Exclusive>,
        z: &ZoneName,
        n: &ZoneRecordName,
    ) -> Result<bool> {
        let gone = self.state_mut()?.unlink_durable(rel::zone_record(&lock.key().0, z, n));
        gone.with_context(|| format!("Failed deleting record \"{n}\" of zone \"{z}\""))
    }
}
