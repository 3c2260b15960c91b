//! What every handler is given: folders, project, verbosity, terminals and the ways to print.
//!
//! Made once in [`super::main`]. Handlers print through it, so that `--quiet` and a closed pipe are dealt with in one place.

use super::env::Env;
use super::kv::{self, Assignments, Object, Pairs};
use super::progress::Progress;
use crate::base::names::ProjectName;
use crate::base::url::Url;
use crate::error::{Error, Result};
use crate::host::command::{self, Host};
use crate::host::http::{Client, Proxies, Settings, Trust};
use crate::model::image::ImageSource;
use crate::model::keys;
use crate::model::remote::{self, Remote};
use crate::model::view::property::{self, Field, Properties};
use crate::ops::image_oci::{InLayout, LAYOUT, Logins, Registry};
use crate::ops::image_remote::{Place, Server};
use crate::ops::{features, first_use, leave, restrict, undo};
use crate::remote::Folders;
use crate::store::layout::Layout;
use crate::store::{Access, Store};
use std::fmt;
use std::io::{IsTerminal, Write};

/// Which of the three standard streams are terminals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tty {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

impl Tty {
    /// Asks the kernel.
    pub fn probe() -> Self {
        Self {
            stdin: std::io::stdin().is_terminal(),
            stdout: std::io::stdout().is_terminal(),
            stderr: std::io::stderr().is_terminal(),
        }
    }
}

/// The surroundings of a command.
#[derive(Debug, Clone)]
pub struct Context {
    /// The environment.
    pub env: Env,
    /// Where the state is.
    pub layout: Layout,
    /// The project to work in: `--project`, else the environment's, else `default`.
    pub project: String,
    /// The project was named by option or environment.
    pub project_given: bool,
    /// `--quiet`: no progress, no notices.
    pub quiet: bool,
    /// `--verbose` or `--debug`: more about what is done, on standard error.
    pub verbose: bool,
    /// `--debug`.
    pub debug: bool,
    /// The terminals.
    pub tty: Tty,
}

impl Context {
    /// For completion, which says nothing but names; none without a place for the state.
    pub(super) fn quiet(env: Env, state_dir: Option<&std::path::Path>) -> Option<Self> {
        let layout = env.layout(state_dir, nix::unistd::geteuid().as_raw())?;
        let (project, tty) = ("default".to_string(), Tty::default());
        Some(Self { env, layout, project, project_given: false, quiet: true, verbose: false, debug: false, tty })
    }

    /// Opens the store for a command that changes something; what a killed command left is settled first.
    ///
    /// # Errors
    /// As [`Store::open_with`].
    pub fn store(&self) -> Result<Store> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::unsupported("This version can only change things as root").hint("run it with sudo"));
        }
        self.about(undo::open(&self.layout, Access::Write)?)
    }

    /// The end of a command after which nothing may run any more; no store is open. What it cannot do the next one does.
    pub fn leave(&self) {
        let _ = leave::cgroups(&self.layout);
    }

    /// Opens the store for a command that only reads.
    ///
    /// # Errors
    /// As [`Store::open_with`].
    pub fn reader(&self) -> Result<Store> {
        self.about(undo::open(&self.layout, Access::Read)?)
    }

    /// Opens the store for a command that shows what there is: what a killed command left is settled first, where it can be.
    ///
    /// # Errors
    /// As [`Store::open_with`].
    pub fn viewer(&self) -> Result<Store> {
        let is_journal = |name: std::ffi::OsString| name.to_string_lossy().ends_with(".journal");
        let journals = std::fs::read_dir(self.layout.ops_dir());
        let begun = journals.is_ok_and(|all| all.flatten().any(|entry| is_journal(entry.file_name())));
        match begun.then(|| self.store()) {
            Some(Ok(store)) => Ok(store),
            _ => self.reader(),
        }
    }

    /// The images are those of the project to work in.
    fn about(&self, store: Store) -> Result<Store> {
        if let Ok(project) = ProjectName::parse(&self.project) {
            features::images(&store, &project);
        }
        Ok(store)
    }

    /// The host's programs, told of the user's proxies.
    pub fn tools(&self) -> Host {
        Host { env: command::Env { proxies: self.env.proxies.clone(), ..command::Env::default() } }
    }

    /// Where the client's configuration is.
    pub fn folders(&self) -> Folders {
        self.env.folders()
    }

    /// The remote of images without one: the environment's, else the configured one.
    ///
    /// # Errors
    /// The configuration cannot be read.
    pub fn default_remote(&self) -> Result<String> {
        self.env.remote.clone().map_or_else(|| Ok(self.folders().load()?.default), Ok)
    }

    /// An image's word: its remote, which there is, and its name.
    ///
    /// # Errors
    /// There is no such remote; the configuration cannot be read.
    pub fn image_object(&self, word: &str) -> Result<Object> {
        let remotes = self.folders().load()?;
        let default = self.env.remote.as_deref().unwrap_or(&remotes.default);
        kv::object_among(word, default, &|name| name == LAYOUT || remotes.remotes.contains_key(name))
    }

    /// The layout that an image is in, if it is named by one; a remote of that name comes first.
    ///
    /// # Errors
    /// The configuration of remotes is damaged.
    pub fn layout_of(&self, image: &Object) -> Result<Option<InLayout>> {
        let is = image.remote == LAYOUT && !self.folders().load()?.remotes.contains_key(LAYOUT);
        Ok(is.then(|| InLayout::parse(&format!("{LAYOUT}:{}", image.name))).flatten())
    }

    /// The place that images of a remote come from.
    ///
    /// # Errors
    /// There is no such remote, or it cannot be used.
    pub fn place(&self, name: &str) -> Result<Place> {
        if name == remote::LOCAL {
            return Ok(Place::Local);
        }
        if name == remote::BOOTSTRAP {
            return Ok(Place::Bootstrap);
        }
        let folders = self.folders();
        let remotes = folders.load()?;
        let found = remotes.get(name)?;
        let url = remote::check(found)?;
        Ok(self.place_of(name, found, url, folders.trust(name)?))
    }

    fn place_of(&self, name: &str, found: &Remote, url: Url, trust: Trust) -> Place {
        let (client, name) = (Client::new(self.http()), name.to_string());
        if found.protocol == remote::OCI {
            let helper = Some(found.credentials_helper.clone()).filter(|helper| !helper.is_empty());
            let env = self.env.home.iter().map(|home| ("HOME".into(), home.into())).collect();
            let logins = Logins { helper, host: self.tools(), env, files: self.env.logins() };
            // The address without what is secret in it.
            let addr = url.to_string();
            return Place::Registry(Box::new(Registry { name, addr, url, trust, client, logins }));
        }
        let (addr, cache) = (found.addr.clone(), self.layout.cache.join("simplestreams"));
        Place::Server(Box::new(Server { name, addr, url, trust, client, cache }))
    }

    /// Refuses to fetch images for `project` from that place, unless it may.
    ///
    /// # Errors
    /// Denied.
    pub fn may_fetch(&self, store: &Store, project: &ProjectName, place: &Place) -> Result<()> {
        let url = match place {
            Place::Local => return Ok(()),
            Place::Bootstrap => return restrict::image_server(store, project, &[remote::BOOTSTRAP]),
            Place::Server(server) => &server.url,
            Place::Registry(registry) => &registry.url,
        };
        self.may_ask(store, project, url)
    }

    /// The same of an address.
    ///
    /// # Errors
    /// Denied.
    pub fn may_ask(&self, store: &Store, project: &ProjectName, url: &Url) -> Result<()> {
        restrict::image_server(store, project, &[&url.host, &format!("{}:{}", url.host, url.port)])
    }

    /// The server or registry that an image came from: the remote that has its address, or none by name.
    ///
    /// # Errors
    /// As [`Context::place`].
    pub fn place_at(&self, source: &ImageSource) -> Result<Place> {
        let remotes = self.folders().load()?;
        let shown = |r: &Remote| Url::parse(&r.addr).is_ok_and(|url| url.to_string() == source.server);
        let named = |r: &Remote| r.protocol == source.protocol && (r.addr == source.server || shown(r));
        if let Some((name, _)) = remotes.remotes.iter().find(|(_, r)| named(r)) {
            return self.place(name);
        }
        let nameless = remote::server(&source.server, &source.protocol);
        let url = remote::check(&nameless)?;
        Ok(self.place_of(&url.host.clone(), &nameless, url, Trust::default()))
    }

    /// How servers are reached from here: through the environment's proxies, else those of the server's configuration.
    pub fn http(&self) -> Settings {
        let mut variables = self.env.proxies.clone();
        let config = self.reader().and_then(|store| store.server()).map(|server| server.config).unwrap_or_default();
        for (key, variable) in keys::server::PROXIES {
            variables.extend(config.get(key).map(|value| (variable.into(), value.into())));
        }
        let proxies = Proxies::new(&variables);
        Settings { proxies, roots: self.env.authorities.clone(), ..Settings::default() }
    }

    /// The project to work in; it must exist.
    ///
    /// # Errors
    /// [`crate::error::Kind::NotFound`].
    pub fn project(&self, store: &Store) -> Result<ProjectName> {
        let name = ProjectName::parse(&self.project)?;
        match store.project(&name)? {
            Some(_) => Ok(name),
            None => Err(Error::not_found("Project not found")),
        }
    }

    /// Prints output proper, as it is.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn print(&self, text: impl fmt::Display) -> Result<()> {
        let mut out = std::io::stdout().lock();
        write!(out, "{text}")?;
        out.flush()?;
        Ok(())
    }

    /// Prints a line of output proper.
    ///
    /// # Errors
    /// As [`Context::print`].
    pub fn line(&self, text: impl fmt::Display) -> Result<()> {
        self.print(format_args!("{text}\n"))
    }

    /// Prints what `get` asks for of an object that is `what`: a property, or the value of a key; nothing if that is not set, as
    /// Incus for all but instances, profiles and projects.
    ///
    /// # Errors
    /// There is no such property; as [`Context::print`].
    pub fn value(&self, put: &mut impl Properties, (key, property): (&str, bool), what: &str) -> Result<()> {
        if property {
            let none = |e: Error| e.context(format!("The property {key:?} does not exist on the {what}"));
            return self.line(property::get(put, key).map_err(none)?);
        }
        match put.field("config") {
            Some(Field::Config(config)) => config.remove(key).map_or(Ok(()), |value| self.line(value)),
            _ => Ok(()),
        }
    }

    /// Prints a one-line notice on standard output, such as `Device X added to Y`; nothing with `--quiet`.
    ///
    /// # Errors
    /// As [`Context::print`].
    pub fn notice(&self, text: impl fmt::Display) -> Result<()> {
        if self.quiet { Ok(()) } else { self.line(text) }
    }

    /// Prints `Warning: …` on standard error.
    pub fn warn(&self, text: impl fmt::Display) {
        let prefix = super::report::prefix("Warning:", "33", self.color_err());
        // Nobody is left to tell if standard error is closed.
        let _ = writeln!(std::io::stderr(), "{prefix} {text}");
    }

    /// Makes what the first instance of a state folder needs; says what the host lacks for a network.
    ///
    /// # Errors
    /// The state folder cannot be written.
    pub fn first_use(&self, store: &Store) -> Result<()> {
        if let Some(refused) = first_use::ensure(store)? {
            self.warn(&refused);
            let hint = refused.hint_text().map(|h| format!("{h}, then: ")).unwrap_or_default();
            self.warn(format_args!(
                "{hint}stapes network create stapesbr0 && stapes network attach-profile stapesbr0 default eth0 eth0"
            ));
        }
        Ok(())
    }

    /// Standard error takes colours.
    pub fn color_err(&self) -> bool {
        self.tty.stderr && !self.env.no_color
    }

    /// A progress line; `format` holds `%s` where the status goes, as in `Retrieving image: %s`.
    pub fn progress(&self, format: &str) -> Progress {
        Progress::new(format, self.tty.stdout && !self.quiet)
    }

    /// `self.project` as it is shown behind the name of an instance in hints: ` --project x`, or nothing.
    pub fn project_argument(&self) -> String {
        if self.project_given && self.project != "default" {
            format!(" --project {}", self.project)
        } else {
            String::new()
        }
    }

    /// Asks a question on the terminal; only the word `yes` is a yes.
    ///
    /// # Errors
    /// Standard input or output failed.
    pub fn confirm(&self, question: &str) -> Result<bool> {
        self.print(format_args!("{question} (yes/no): "))?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        Ok(kv::is_yes(answer.trim()))
    }

    /// The pairs of a `set`-like command: warns about the deprecated form, and puts standard input in place of the value
    /// `-` when standard input is not a terminal.
    ///
    /// # Errors
    /// `-` given twice, or standard input cannot be read.
    pub fn values(&self, assignments: Assignments) -> Result<Pairs> {
        if assignments.deprecated {
            self.warn(kv::DEPRECATED);
        }
        let mut pairs = assignments.pairs;
        let mut read = false;
        for (_, value) in pairs.iter_mut().filter(|(_, value)| value == "-" && !self.tty.stdin) {
            if std::mem::replace(&mut read, true) {
                return Err(Error::invalid("Cannot read the stdin twice"));
            }
            *value = self.stdin_text()?;
        }
        Ok(pairs)
    }

    /// All of standard input as text when it is not a terminal (the YAML that `create`, `edit` and others read); none on a
    /// terminal or when there is nothing but white space.
    ///
    /// # Errors
    /// Reading failed, it is not UTF-8 or larger than 16 MiB.
    pub fn stdin_document(&self) -> Result<Option<String>> {
        if self.tty.stdin {
            return Ok(None);
        }
        Ok(Some(self.stdin_text()?).filter(|t| !t.trim().is_empty()))
    }

    fn stdin_text(&self) -> Result<String> {
        use std::io::Read;
        const MOST: u64 = 16 << 20;
        let mut bytes = Vec::new();
        match std::io::stdin().lock().take(MOST + 1).read_to_end(&mut bytes) {
            Ok(_) => {}
            // Started with standard input closed (`<&-`), or detached: the same as empty.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EBADF | libc::EIO)) => return Ok(String::new()),
            Err(e) => return Err(Error::from(e).context("Can't read from stdin")),
        }
        if bytes.len() as u64 > MOST {
            return Err(Error::invalid("Standard input is larger than 16MiB"));
        }
        String::from_utf8(bytes).map_err(|_| Error::invalid("Standard input isn't UTF-8"))
    }
}
