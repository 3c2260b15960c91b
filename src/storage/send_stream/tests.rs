//! Streams made by hand.

use super::*;
use std::path::PathBuf;

/// A stream being made.
struct Stream {
    bytes: Vec<u8>,
    version: u32,
}

fn value(number: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).expect("short");
    [&number.to_le_bytes(), &length.to_le_bytes(), data].concat()
}

impl Stream {
    fn begun(version: u32) -> Self {
        let bytes = [MAGIC, &version.to_le_bytes()].concat();
        Self { bytes, version }.command(1, &[value(15, b"name"), value(1, &[7; 16]), value(2, &9u64.to_le_bytes())])
    }

    fn command(mut self, number: u16, values: &[Vec<u8>]) -> Self {
        let body = values.concat();
        let mut all = (body.len() as u32).to_le_bytes().to_vec();
        all.extend(number.to_le_bytes());
        all.extend([0; 4]);
        all.extend(&body);
        let sum = crc32c::add(0, &all).to_le_bytes();
        all[6..10].copy_from_slice(&sum);
        self.bytes.extend(all);
        self
    }

    fn write(self, path: &[u8], data: &[u8]) -> Self {
        let data = match self.version {
            1 => value(19, data),
            _ => [&19u16.to_le_bytes()[..], data].concat(),
        };
        self.command(15, &[value(15, path), value(18, &5u64.to_le_bytes()), data])
    }

    fn end(self) -> Vec<u8> {
        self.command(21, &[]).bytes
    }
}

/// The commands, as text, of a stream that comes in pieces of `step` bytes.
fn read(bytes: &[u8], step: usize) -> Result<Vec<String>> {
    let (mut parser, mut found) = (Parser::default(), Vec::new());
    for piece in bytes.chunks(step) {
        parser.feed(piece, &mut |command| {
            found.push(format!("{command:?}"));
            Ok(())
        })?;
    }
    parser.finish().map(|()| found)
}

#[test]
fn in_pieces_of_any_length() {
    for version in [1, 2] {
        let stream = Stream::begun(version)
            .command(3, &[value(15, b"o1"), value(3, &[0; 8])])
            .command(9, &[value(15, b"o1"), value(16, b"a/b")])
            .write(b"a/b", &[1; 1000])
            .command(20, &[value(10, &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0]), value(15, b"")])
            .end();
        let whole = read(&stream, usize::MAX).expect("good");
        assert_eq!(whole.len(), 6);
        assert_eq!(whole[2], format!("{:?}", Command::Rename { path: "o1".as_ref(), to: "a/b".as_ref() }));
        assert_eq!(whole[4], format!("{:?}", Command::Times { path: "".as_ref(), mtime: (1, 2) }));
        for step in 1..40 {
            assert_eq!(read(&stream, step).expect("good"), whole, "{step}");
        }
        for cut in 0..stream.len() {
            assert!(read(&stream[..cut], 64).is_err(), "{cut}");
        }
    }
}

#[test]
fn what_is_written_where() {
    let long = vec![3; 100_000];
    let stream = Stream::begun(2).write(b"f", &long).end();
    let mut parser = Parser::default();
    let mut seen = Vec::new();
    parser
        .feed(&stream, &mut |command| {
            if let Command::Write { path, offset, data } = command {
                seen.push((PathBuf::from(path), *offset, data.to_vec()));
            }
            Ok(())
        })
        .expect("good");
    assert_eq!(seen, [(PathBuf::from("f"), 5, long)]);
}

#[test]
fn bad_names() {
    let deep = vec![b'a'; 256];
    let long = [&b"a/"[..]; 2048].concat();
    let names: [&[u8]; 11] =
        [b"..", b"../x", b"a/../../x", b"/etc/x", b"a//b", b"a/", b".", b"a/./b", b"a\0b", &deep, &long];
    for name in names {
        for stream in [
            Stream::begun(1).command(3, &[value(15, name)]),
            Stream::begun(1).command(9, &[value(15, b"a"), value(16, name)]),
            Stream::begun(1).command(10, &[value(15, b"a"), value(17, name)]),
            Stream::begun(1).write(name, b"x"),
        ] {
            assert!(read(&stream.end(), 100).is_err(), "{name:?}");
        }
    }
}

#[test]
fn bad_streams() {
    let good = || Stream::begun(1);
    let flipped = |at: usize| {
        let mut bytes = good().write(b"f", b"data").end();
        bytes[at] ^= 1;
        bytes
    };
    let numbers = |n: u64| value(4, &n.to_le_bytes());
    let more: Vec<(&str, Vec<u8>)> = vec![
        ("header", b"btrfs-streaM\0\x01\0\0\0".to_vec()),
        ("version", [MAGIC, &[3, 0, 0, 0]].concat()),
        ("checksum", flipped(HEADER + 12)),
        ("data", flipped(good().write(b"f", b"data").bytes.len() - 1)),
        ("oversize", [&good().bytes[..], &[1, 0, 1, 0, 3, 0, 0, 0, 0, 0]].concat()),
        ("no subvolume", Stream { bytes: good().bytes[..HEADER].to_vec(), version: 1 }.write(b"f", b"x").end()),
        ("two of them", good().command(1, &[value(1, &[7; 16]), value(2, &[0; 8])]).end()),
        ("after the end", [good().end(), good().bytes].concat()),
        ("unknown command", good().command(26, &[]).end()),
        ("no data", good().command(22, &[value(15, b"f")]).end()),
        ("compressed", good().command(25, &[value(15, b"f")]).end()),
        ("missing value", good().command(4, &[]).end()),
        ("twice", good().command(4, &[value(15, b"f"), value(15, b"g")]).end()),
        ("unknown value", good().command(4, &[value(15, b"f"), value(32, b"g")]).end()),
        ("value zero", good().command(4, &[value(15, b"f"), value(0, b"g")]).end()),
        ("value too long", good().command(4, &[vec![15, 0, 9, 0, b'f']]).end()),
        ("value cut", good().command(4, &[vec![15, 0, 9]]).end()),
        ("short number", good().command(17, &[value(15, b"f"), value(4, &[1; 4])]).end()),
        ("negative", good().command(17, &[value(15, b"f"), numbers(1 << 63)]).end()),
        ("owner", good().command(19, &[value(15, b"f"), value(6, &[255; 8]), value(7, &[0; 8])]).end()),
        ("time", good().command(20, &[value(15, b"f"), value(10, &[255; 12])]).end()),
        ("node", good().command(5, &[value(15, b"f"), value(5, &[0, 128, 0, 0, 0, 0, 0, 0]), value(8, &[0; 8])]).end()),
        ("attribute", good().command(14, &[value(15, b"f"), value(13, b"")]).end()),
        ("link", good().command(8, &[value(15, b"f"), value(17, b"a\0")]).end()),
    ];
    for (what, bytes) in more {
        assert!(read(&bytes, 100).is_err() && read(&bytes, 1).is_err(), "{what}");
    }
    assert!(read(&good().end(), 7).is_ok());
}
