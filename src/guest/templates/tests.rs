use super::*;
use proptest::prelude::*;

fn template(path: &str) -> Template {
    let properties = BTreeMap::from([("default".to_string(), "fallback".to_string())]);
    let owner = Owner { uid: 0, gid: 0, mode: 0o644 };
    Template { path: path.into(), source: "t.tpl".into(), create_only: false, properties, owner }
}

fn rendered(source: &str) -> Result<String> {
    let pairs = |list: &[(&str, &str)]| list.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let instance: BTreeMap<String, String> = pairs(&[("name", "c1"), ("type", "container"), ("privileged", "false")]);
    let config: Config = pairs(&[("user.x", "one\n\n"), ("user.html", "<&>\"'"), ("b", "2")]);
    let devices: Devices = BTreeMap::from([("eth0".to_string(), pairs(&[("type", "nic")]))]);
    let scope = Scope { trigger: "start", instance: &instance, config: &config, devices: &devices };
    render(source, &template("/etc/x"), &scope)
}

fn check(source: &str, wanted: &str) {
    assert_eq!(rendered(source).expect(source), wanted, "{source}");
}

#[test]
fn as_images_write_them() {
    check("127.0.1.1\t{{ container.name }}\n", "127.0.1.1\tc1\n");
    check("{{ instance.name }} {{ path }} {{ trigger }}", "c1 /etc/x start");
    check("{{ config_get(\"user.x\", \"none\") }}|", "one|");
    check("{{ config_get(\"user.none\", properties.default) }}", "fallback");
    check("{{ config_get(\"user.none\", \"\") }}\n\n", "\n\n");
    check("{% if config_get(\"user.x\", \"\") == \"one\" %}yes\n{% else %}no\n{% endif %}\n", "yes\n\n");
    check("{% if instance.type == 'container' && !missing %}a{% endif %}", "a");
    check("{% if missing.deep || trigger == \"start\" %}a{% endif %}", "a");
    check("{{ config_get(\"user.html\", \"\") }}", "<&>\"'");
    check("{% autoescape off %}{{ config[\"user.html\"] }}{% endautoescape %}", "<&>\"'");
    check("{{ missing.x|default:\"d:|}}\" }}", "d:|}}");
    check("{{ missing.x | default: properties.default | upper }}", "FALLBACK");
    check("{% comment %}{{ broken %}{% endcomment %}x{# {{ y #}", "x");
    check("{% comment %}{%}{% endcomment %}x", "x");
    check("{% verbatim %}{{ a }}{% if %}{% endverbatim %}", "{{ a }}{% if %}");
    check("{% for k, v in devices %}{{ forloop.Counter }}{{ k }}={{ v.type }}{% endfor %}", "1eth0=nic");
    check("{% for k, v in config sorted %}{{ k }},{% endfor %}", "b,user.html,user.x,");
    check("{% ifequal trigger \"start\" %}s{% endifequal %}", "s");
    check("{{ \"a && !b || forloop.First\" }}", "a && !b || forloop.First");
    check("{% if 1 != 2 %}ok{% endif %}", "ok");
    check("plain { % text } }} %}", "plain { % text } }} %}");
}

/// Rows CVE-2026-23954, -33897: a template that reads the host's files.
#[test]
fn cve_2026_23954_templates_read_no_files() {
    for source in [
        "{% include \"/etc/passwd\" %}",
        "{% extends \"/etc/passwd\" %}",
        "{% import \"/etc/passwd\" as p %}{{ p }}",
        "{% from \"/etc/passwd\" import x %}",
        "{% ssi \"/etc/passwd\" %}",
        "{% ssi \"/etc/passwd\" parsed %}",
        "{{ include(\"/etc/passwd\") }}",
        "{% if include_ssi %}{% ssi",
    ] {
        assert!(rendered(source).is_err(), "{source}");
    }
}

#[test]
fn bombs_run_dry() {
    let doubling = format!("{{% set a = 'xxxxxxxx' %}}{}{{{{ a }}}}", "{% set a = a ~ a %}".repeat(60));
    let nested = format!("{}x{}", "{% for i in range(9999) %}".repeat(8), "{% endfor %}".repeat(8));
    let long = format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000));
    let lines = "{% for i in range(9999) %}{% for j in range(9999) %}0123456789{% endfor %}{% endfor %}".to_string();
    for source in [doubling, nested, long, lines, "{{ 'x' * 99999999999 }}".into(), "{{ 'x' * 99999999 }}".into()] {
        assert!(rendered(&source).is_err(), "{}", &source[..60.min(source.len())]);
    }
}

#[test]
fn owners_are_read() {
    assert_eq!(owner("", "", "").expect("empty"), Owner { uid: 0, gid: 0, mode: 0o644 });
    assert_eq!(owner("5", "6", "0600").expect("given"), Owner { uid: 5, gid: 6, mode: 0o600 });
    for (uid, gid, mode) in [("x", "", ""), ("", "-1", ""), ("", "", "8"), ("", "", "10000")] {
        assert!(owner(uid, gid, mode).is_err(), "{uid} {gid} {mode}");
    }
}

struct Place {
    dir: tempfile::TempDir,
    ids: crate::base::idmap::IdMap,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        std::fs::create_dir(dir.path().join("root")).expect("mkdir");
        std::fs::create_dir(dir.path().join("templates")).expect("mkdir");
        std::fs::write(dir.path().join("canary"), "host").expect("write");
        std::fs::write(dir.path().join("templates/t.tpl"), "{{ path }}\n").expect("write");
        Self { dir, ids: crate::base::idmap::IdMap::default() }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// Ordinary users cannot give files away: templates are theirs here.
    fn apply(&self, mut template: Template) -> Result<bool> {
        template.owner.uid = rustix::process::geteuid().as_raw();
        template.owner.gid = rustix::process::getegid().as_raw();
        let root = path::open_root(&self.path("root"))?;
        let sources = path::open_root(&self.path("templates"))?;
        let (none, config, devices) = (BTreeMap::new(), Config::new(), Devices::new());
        let scope = Scope { trigger: "start", instance: &none, config: &config, devices: &devices };
        if !rustix::process::geteuid().is_root() {
            // Parents are the instance's root's, which only root can make.
            std::fs::create_dir_all(self.path("root/etc/deep"))?;
        }
        super::apply(&Root { fd: root.as_fd(), ids: &self.ids }, sources.as_fd(), &template, &scope)
    }
}

#[test]
fn files_are_made_and_kept() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let mut wanted = template("/etc/deep/file");
    wanted.owner.mode = 0o640;
    assert!(place.apply(wanted.clone()).expect("applied"));
    let made = place.path("root/etc/deep/file");
    assert_eq!(std::fs::read(&made).expect("read"), b"/etc/deep/file\n");
    let mode = |p: &Path| std::fs::metadata(p).expect("stat").permissions().mode() & 0o7777;
    assert_eq!(mode(&made), 0o640);
    assert_eq!(mode(&place.path("root/etc/deep")), 0o755);
    // Emptied in place: longer content goes, the mode stays.
    std::fs::write(&made, "something much longer than what is rendered").expect("write");
    std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    assert!(place.apply(wanted.clone()).expect("applied"));
    assert_eq!((std::fs::read(&made).expect("read").len(), mode(&made)), (15, 0o600));
    wanted.create_only = true;
    std::fs::write(&made, "kept").expect("write");
    assert!(!place.apply(wanted).expect("left"));
    assert_eq!(std::fs::read(&made).expect("read"), b"kept");
}

/// Row GHSA templates/ symlinks, CVE-2026-48752: sources and targets as links, `..`, absolute paths.
#[test]
fn cve_2026_48752_links_lead_nowhere() {
    let place = Place::new();
    let canary = place.path("canary");
    std::os::unix::fs::symlink(&canary, place.path("templates/link.tpl")).expect("symlink");
    std::os::unix::fs::symlink(place.dir.path(), place.path("templates/dir")).expect("symlink");
    for name in ["link.tpl", "../canary", "dir/canary", "/etc/passwd", "..", ".", "", "a\0b"] {
        let wanted = Template { source: name.into(), ..template("/out") };
        assert!(place.apply(wanted).is_err(), "{name:?}");
    }
    assert!(!place.path("root/out").exists());
    // Targets: the root ends every way up.
    let root = place.path("root");
    std::os::unix::fs::symlink(&canary, root.join("absolute")).expect("symlink");
    std::os::unix::fs::symlink("../canary", root.join("relative")).expect("symlink");
    std::os::unix::fs::symlink(place.dir.path(), root.join("outside")).expect("symlink");
    std::os::unix::fs::symlink("/proc/self/root/etc", root.join("magic")).expect("symlink");
    for target in ["/absolute", "/relative", "/../canary", "/outside/canary", "/magic/evil", "../../canary"] {
        let _ = place.apply(template(target));
    }
    assert_eq!(std::fs::read(&canary).expect("read"), b"host");
    assert!(!Path::new("/etc/evil").exists());
    // A FIFO or device in its place is refused, not opened.
    rustix::fs::mknodat(rustix::fs::CWD, root.join("fifo"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .expect("mkfifo");
    assert!(place.apply(template("/fifo")).is_err());
}

proptest! {
    #[test]
    fn any_text_is_survived(source in "(\\{\\{|\\}\\}|\\{%|%\\}|\\{#|#\\}|\"|'|\\\\|\\||:|for a, b in |comment|end|!|&&| |é|x){0,30}") {
        let _ = rendered(&source);
    }

    #[test]
    fn text_without_tags_is_kept(source in "[a-z\\n }%#\"']{0,60}") {
        prop_assert_eq!(rendered(&source).expect("plain text"), source);
    }
}
