//! Archives made up from a seed: what a packer could write, in every form the formats have, and the same damaged.

use std::collections::BTreeMap;

/// xorshift64: the same numbers each time.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        // Neighbouring seeds must not give neighbouring numbers.
        let mut it = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        (0..8).for_each(|_| _ = it.below(2));
        it
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// What an entry says about its owner, mode and date.
#[derive(Clone, Copy)]
struct About {
    mode: u32,
    uid: u64,
    gid: u64,
    mtime: i64,
}

/// An archive in the making.
pub struct Archive {
    pub random: Random,
    pub bytes: Vec<u8>,
    /// Where the headers are.
    pub headers: Vec<usize>,
    folders: Vec<(String, About)>,
    /// Files by name, with what was said about them: hard links say the same.
    files: BTreeMap<String, About>,
    links: Vec<String>,
    used: u32,
}

const ROOT: About = About { mode: 0o755, uid: 0, gid: 0, mtime: 0 };
const GNU: &[u8; 8] = b"ustar  \0";
const USTAR: &[u8; 8] = b"ustar\x0000";

fn octal(field: &mut [u8], value: u64) {
    let text = format!("{value:0width$o}\0", width = field.len() - 1);
    field.copy_from_slice(text.as_bytes());
}

fn base_256(field: &mut [u8], value: i64) {
    field.fill(if value < 0 { 0xff } else { 0 });
    let n = field.len();
    let bytes = value.to_be_bytes();
    let wide = n.min(8);
    field[n - wide..].copy_from_slice(&bytes[8 - wide..]);
    if value >= 0 {
        field[0] |= 0x80;
    }
}

pub fn checksum(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u64 = header.iter().map(|b| u64::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let mut len = body + 1;
    while len != body + len.to_string().len() {
        len = body + len.to_string().len();
    }
    [format!("{len} {key}=").as_bytes(), value, b"\n"].concat()
}

impl Archive {
    /// What every reader must take, and take alike.
    pub fn well_formed(seed: u64) -> Self {
        let random = Random::new(seed);
        let (files, headers, links) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut it =
            Self { random, bytes: Vec::new(), headers, folders: vec![(String::new(), ROOT)], files, links, used: 0 };
        for _ in 0..1 + it.random.below(14) {
            it.anything();
        }
        // Two blocks end it; packers fill up a record.
        let more = it.random.of(&[1024, 1024, 2048, 10240]);
        it.bytes.resize(it.bytes.len() + more, 0);
        it
    }

    fn about(&mut self) -> About {
        let r = &mut self.random;
        let big = |r: &mut Random| match r.below(8) {
            0 => 0o7777777 - r.below(2),
            1 => 0o10000000 + r.below(1000),
            2 => u64::from(u32::MAX) - 1 - r.below(1000),
            _ => r.below(70_000),
        };
        let mode = r.of(&[0o644, 0o755, 0o600, 0, 0o4755, 0o2711, 0o1777, 0o6555, 0o444, 0o7777]);
        let mtime = r.of(&[0, 1, 1_000_000_000, 1_700_000_123, 0o77777777777, 9_000_000_000, -1, -12_345]);
        About { mode, uid: big(r), gid: big(r), mtime }
    }

    /// A fresh name in one of the folders, short or long, plain or odd.
    fn name(&mut self) -> String {
        self.used += 1;
        let at = self.random.below(self.folders.len() as u64) as usize;
        let (folder, n) = (self.folders[at].0.clone(), self.used);
        let odd =
            self.random.of(&["", "", "", " ", "\n", "x\\n", "é", "*", "\"'", "-x", "%s", "\u{1}", "..", ".x", "=7 "]);
        let fill = self.random.of(&[0, 0, 0, 3, 60, 85, 90, 95, 99, 100, 150, 240]) as usize;
        format!("{folder}{odd}{n}{}", "n".repeat(fill))
    }

    /// The same name, as another packer might write it.
    fn spelled(&mut self, name: &str) -> String {
        match self.random.below(12) {
            0 => format!("./{name}"),
            1 => name.replacen('/', "//", 1),
            2 => name.replacen('/', "/./", 1),
            3 => format!("././{name}"),
            _ => name.to_string(),
        }
    }

    fn anything(&mut self) {
        let about = self.about();
        match self.random.below(16) {
            0..=2 => self.folder(about),
            3 => self.folder_again(),
            4 | 5 => self.symlink(about),
            6 | 7 => self.hard_link(),
            8 => self.node(about),
            9 => self.holes(about),
            10 => self.file_again(about),
            _ => {
                let name = self.name();
                self.file(&name, about);
            }
        }
    }

    fn folder(&mut self, about: About) {
        if self.folders.len() > 5 {
            return;
        }
        let name = self.name();
        let slash = self.random.of(&["/", ""]);
        let said = format!("{}{slash}", self.spelled(&name));
        self.entry(b'5', &said, "", b"", about, (0, 0), &[]);
        self.folders.push((format!("{name}/"), about));
    }

    /// bsdtar lets either of two different ones win.
    fn folder_again(&mut self) {
        let at = self.random.below(self.folders.len() as u64) as usize;
        let (name, about) = self.folders[at].clone();
        if !name.is_empty() {
            self.entry(b'5', &name, "", b"", about, (0, 0), &[]);
        }
    }

    fn symlink(&mut self, about: About) {
        let name = self.name();
        let long = "t/".repeat(self.random.below(90) as usize);
        let target =
            self.random.of(&["a", "/etc/passwd", "../../x", "/", ".", "a b\n", &format!("{long}x")]).to_string();
        let said = self.spelled(&name);
        self.entry(b'2', &said, &target, b"", About { mode: 0o777, ..about }, (0, 0), &[]);
        self.links.push(name);
    }

    fn hard_link(&mut self) {
        let at = self.random.below(self.files.len().max(1) as u64) as usize;
        let Some((target, about)) = self.files.iter().nth(at).map(|(n, a)| (n.clone(), *a)) else { return };
        let name = self.name();
        let (said, to) = (self.spelled(&name), self.spelled(&target));
        self.entry(b'1', &said, &to, b"", about, (0, 0), &[]);
        self.files.insert(name, about);
    }

    fn node(&mut self, about: About) {
        let name = self.name();
        let (kind, device) = self.random.of(&[(b'6', (0, 0)), (b'3', (1, 3)), (b'4', (8, 17)), (b'3', (4095, 255))]);
        self.entry(kind, &name, "", b"", about, device, &[]);
    }

    fn file(&mut self, name: &str, about: About) {
        let len = self.random.of(&[0, 1, 10, 511, 512, 513, 1024, 3000]);
        let data: Vec<u8> = (0..len).map(|i: u32| (i.wrapping_mul(self.used + 7) >> 3) as u8).collect();
        let xattrs: &[(&str, &[u8])] = match self.random.below(8) {
            0 => &[("SCHILY.xattr.user.note", b"line\nand \0 more")],
            1 => &[("comment", b"nothing"), ("SCHILY.xattr.user.a", b"1"), ("SCHILY.xattr.user.b", b"2")],
            _ => &[],
        };
        let said = self.spelled(name);
        let kind = self.random.of(&[b'0', b'0', b'0', 0, b'7']);
        self.entry(kind, &said, "", &data, about, (0, 0), xattrs);
        self.files.insert(name.to_string(), about);
    }

    /// The last entry of a name wins; another name of the old file keeps the old one.
    fn file_again(&mut self, about: About) {
        let at = self.random.below((self.files.len() + self.links.len()).max(1) as u64) as usize;
        let names: Vec<String> = self.files.keys().chain(&self.links).cloned().collect();
        if let Some(name) = names.get(at) {
            self.links.retain(|l| l != name);
            self.file(&name.clone(), about);
        }
    }

    /// A file with holes: GNU's old form, or PAX 0.1 or 1.0.
    fn holes(&mut self, about: About) {
        let name = self.name();
        let (real, map): (u64, Vec<(u64, u64)>) = self
            .random
            .of(&[
                (8192, &[(512, 512), (4096, 1024), (8192, 0)][..]),
                (100_000, &[(0, 512), (51_200, 512), (100_000, 0)]),
                (4096, &[(4096, 0)]),
                (1024, &[(0, 512), (512, 512)]),
            ])
            .into_pair();
        let stored: u64 = map.iter().map(|(_, len)| len).sum();
        let data = vec![b'd'; stored as usize];
        match self.random.below(3) {
            0 => self.gnu_holes(&name, about, real, &map, &data),
            1 => {
                let text: Vec<String> = map.iter().map(|(o, l)| format!("{o},{l}")).collect();
                let records = [
                    ("GNU.sparse.size", real.to_string()),
                    ("GNU.sparse.numblocks", map.len().to_string()),
                    ("GNU.sparse.map", text.join(",")),
                ];
                let records: Vec<(&str, &[u8])> = records.iter().map(|(k, v)| (*k, v.as_bytes())).collect();
                self.entry(b'0', &name, "", &data, about, (0, 0), &records);
            }
            _ => {
                let numbers: String = map.iter().map(|(o, l)| format!("{o}\n{l}\n")).collect();
                let mut all = format!("{}\n{numbers}", map.len()).into_bytes();
                all.resize(all.len().next_multiple_of(512), 0);
                all.extend(data);
                let real = real.to_string();
                let records: [(&str, &[u8]); 4] = [
                    ("GNU.sparse.major", b"1"),
                    ("GNU.sparse.minor", b"0"),
                    ("GNU.sparse.name", name.as_bytes()),
                    ("GNU.sparse.realsize", real.as_bytes()),
                ];
                self.entry(b'0', "GNUSparseFile.0/x", "", &all, about, (0, 0), &records);
            }
        }
        self.files.insert(name, about);
    }

    fn gnu_holes(&mut self, name: &str, about: About, real: u64, map: &[(u64, u64)], data: &[u8]) {
        let from = self.bytes.len();
        if name.len() > 99 {
            self.long(b'L', name);
        }
        let mut h = self.header(b'S', name, "", data.len() as u64, about, (0, 0), GNU);
        for (i, (offset, len)) in map.iter().enumerate() {
            octal(&mut h[386 + i * 24..398 + i * 24], *offset);
            octal(&mut h[398 + i * 24..410 + i * 24], *len);
        }
        octal(&mut h[483..495], real);
        checksum(&mut h);
        self.block(&h, data);
        debug_assert!(self.bytes.len() > from);
    }

    fn long(&mut self, kind: u8, text: &str) {
        let plain = ROOT;
        let data = [text.as_bytes(), b"\0"].concat();
        let mut h = self.header(kind, "././@LongLink", "", data.len() as u64, plain, (0, 0), GNU);
        checksum(&mut h);
        self.block(&h, &data);
    }

    fn block(&mut self, header: &[u8; 512], data: &[u8]) {
        self.headers.push(self.bytes.len());
        self.bytes.extend_from_slice(header);
        self.bytes.extend_from_slice(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of a header")]
    fn header(
        &mut self,
        kind: u8,
        name: &str,
        link: &str,
        size: u64,
        about: About,
        device: (u32, u32),
        magic: &[u8; 8],
    ) -> [u8; 512] {
        let mut h = [0u8; 512];
        let n = name.len().min(100);
        h[..n].copy_from_slice(&name.as_bytes()[..n]);
        octal(&mut h[100..108], u64::from(about.mode));
        for (range, value) in [(108..116, about.uid), (116..124, about.gid)] {
            if value > 0o7777777 || self.random.below(10) == 0 {
                base_256(&mut h[range], value as i64);
            } else {
                octal(&mut h[range], value);
            }
        }
        match self.random.below(10) {
            0 => base_256(&mut h[124..136], size as i64),
            _ => octal(&mut h[124..136], size),
        }
        match about.mtime {
            0..=0o77777777777 => octal(&mut h[136..148], about.mtime as u64),
            other => base_256(&mut h[136..148], other),
        }
        h[156] = kind;
        let n = link.len().min(100);
        h[157..157 + n].copy_from_slice(&link.as_bytes()[..n]);
        h[257..265].copy_from_slice(magic);
        // Names of owners are not to be looked up.
        h[265..271].copy_from_slice(b"daemon");
        octal(&mut h[329..337], u64::from(device.0));
        octal(&mut h[337..345], u64::from(device.1));
        h
    }

    /// An entry whose long names are in GNU's form, in a PAX header, or split over the two fields of ustar.
    #[allow(clippy::too_many_arguments, reason = "the parts of an entry")]
    fn entry(
        &mut self,
        kind: u8,
        name: &str,
        link: &str,
        data: &[u8],
        about: About,
        device: (u32, u32),
        records: &[(&str, &[u8])],
    ) {
        let mut records: Vec<(&str, &[u8])> = records.to_vec();
        let size = data.len().to_string();
        let mut magic = self.random.of(&[GNU, USTAR]);
        let mut split = None;
        if name.len() > 100 {
            split = name.as_bytes()[..name.len().min(155)]
                .iter()
                .rposition(|b| *b == b'/')
                .filter(|at| name.len() - at - 1 <= 100 && *at > 0);
            split = split.filter(|_| self.random.below(2) == 0 && records.is_empty());
            if split.is_some() {
                magic = USTAR;
            } else if records.is_empty() && self.random.below(2) == 0 {
                self.long(b'L', name);
            } else {
                records.push(("path", name.as_bytes()));
            }
        }
        if link.len() > 100 {
            if self.random.below(2) == 0 { self.long(b'K', link) } else { records.push(("linkpath", link.as_bytes())) }
        }
        let uid = about.uid.to_string();
        if !records.is_empty() && self.random.below(3) == 0 {
            records.extend([("size", size.as_bytes()), ("uid", uid.as_bytes())]);
        }
        if !records.is_empty() {
            // GNU tar reads holes of PAX headers before POSIX headers only.
            magic = USTAR;
            let all: Vec<u8> = records.iter().flat_map(|(k, v)| record(k, v)).collect();
            let plain = ROOT;
            let mut h = self.header(b'x', "PaxHeaders/x", "", all.len() as u64, plain, (0, 0), USTAR);
            checksum(&mut h);
            self.block(&h, &all);
        }
        let short = split.map_or(name, |at| &name[at + 1..]);
        let mut h = self.header(kind, short, link, data.len() as u64, about, device, magic);
        if let Some(at) = split {
            h[345..345 + at].copy_from_slice(&name.as_bytes()[..at]);
        }
        checksum(&mut h);
        self.block(&h, data);
    }

    /// Damages it: cut, bent, continued, reordered, or with names that climb. What remains may be well-formed again.
    pub fn damage(mut self) -> Vec<u8> {
        let len = self.bytes.len() as u64;
        let header = |it: &mut Self| {
            let at = it.random.below(it.headers.len() as u64) as usize;
            it.headers[at]
        };
        match self.random.below(9) {
            0 => self.bytes.truncate(self.random.below(len) as usize),
            1 => self.bytes.truncate((self.random.below(len) / 512 * 512) as usize),
            2 => {
                let at = self.random.below(len) as usize;
                self.bytes[at] ^= 1 << self.random.below(8);
            }
            // A field of a header, with the checksum set right again.
            3 | 4 if !self.headers.is_empty() => {
                let at = header(&mut self);
                let field =
                    self.random.of(&[0, 1, 100, 108, 124, 125, 134, 135, 136, 156, 157, 257, 263, 329, 345, 386, 482]);
                let value = self
                    .random
                    .of(&[0, b' ', b'/', b'.', b'0', b'1', b'5', b'7', b'9', b'x', b'g', b'L', b'S', 0x80, 0xff]);
                self.bytes[at + field] = value;
                checksum(&mut self.bytes[at..at + 512]);
            }
            5 if !self.headers.is_empty() => {
                let at = header(&mut self);
                let name = self.random.of(&["../outside", "/../outside", "..", "a/../../outside", "1/..", "./.."]);
                self.bytes[at..at + 100].fill(0);
                self.bytes[at..at + name.len()].copy_from_slice(name.as_bytes());
                checksum(&mut self.bytes[at..at + 512]);
            }
            // Another archive behind it, or noise.
            6 => {
                let seed = self.random.below(1 << 40);
                self.bytes.extend(Self::well_formed(seed).bytes);
            }
            7 => {
                let noise: Vec<u8> = (0..self.random.below(2000)).map(|i| ((i * 37) >> 2) as u8).collect();
                self.bytes.extend(noise);
            }
            // A block twice, or none.
            _ => {
                let at = (self.random.below(len / 512) * 512) as usize;
                let block = self.bytes[at..at + 512].to_vec();
                let times = self.random.of(&[0, 2]);
                self.bytes.splice(at..at + 512, block.repeat(times));
            }
        }
        self.bytes
    }

    /// Entries beneath a link that leads out, links over folders, links to links: where readers differ on purpose.
    pub fn climbing(mut self) -> Vec<u8> {
        let end = self.bytes.iter().rposition(|b| *b != 0).map_or(0, |at| (at + 1).next_multiple_of(512));
        self.bytes.truncate(end);
        let plain = About { mode: 0o777, uid: 0, gid: 0, mtime: 0 };
        let target = self.random.of(&["..", "../outside", "/", "/tmp", "../../..", ".", "/proc/self/cwd", "nowhere"]);
        self.entry(b'2', "up", target, b"", plain, (0, 0), &[]);
        for name in ["up/outside", "up/../outside", "up/up/outside", "up"] {
            let kind = self.random.of(b"05216");
            let link = self.random.of(&["up/canary", "../canary", "up", "/etc/passwd"]);
            let link = if matches!(kind, b'1' | b'2') { link } else { "" };
            self.entry(kind, name, link, b"", plain, (0, 0), &[]);
        }
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }
}

trait IntoPair {
    fn into_pair(self) -> (u64, Vec<(u64, u64)>);
}

impl IntoPair for (u64, &[(u64, u64)]) {
    fn into_pair(self) -> (u64, Vec<(u64, u64)>) {
        (self.0, self.1.to_vec())
    }
}
