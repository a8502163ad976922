//! The build cache: what runs again and what does not, and what is read for it.

use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::support::{Bench, report};

const APP: &str = "FROM base:1\nWORKDIR /app\nCOPY requirements.txt .\nRUN cat requirements.txt > installed\n\
                   COPY . .\nRUN ls > listing\nCMD [\"x\"]";

fn app() -> Bench {
    let bench = Bench::with_base();
    bench
        .file("requirements.txt", "flask")
        .file("main.py", "print()");
    bench
}

#[test]
fn the_same_input_gives_the_same_image() {
    let bench = app();
    let first = bench.build(APP);
    assert_eq!(
        bench.cached(),
        [true, false, false, false, false, false, true]
    );
    let second = bench.build(APP);
    assert_eq!(bench.cached(), [true; 7]);
    assert_eq!(second.manifest_digest, first.manifest_digest);
    assert_eq!(bench.ran(), 2);
}

#[test]
fn a_change_runs_what_depends_on_it() {
    let bench = app();
    bench.build(APP);
    bench.file("main.py", "print(1)").build(APP);
    assert_eq!(bench.cached(), [true, true, true, true, false, false, true]);
    bench.file("requirements.txt", "flask celery").build(APP);
    assert_eq!(
        bench.cached(),
        [true, true, false, false, false, false, true]
    );
    // Back to what was there before: everything is still known.
    bench.file("requirements.txt", "flask").build(APP);
    assert_eq!(bench.cached(), [true; 7]);
    bench.mode("main.py", 0o755).build(APP);
    assert_eq!(bench.cached(), [true, true, true, true, false, false, true]);
}

#[test]
fn times_and_ignored_files_change_nothing() {
    let bench = app();
    bench
        .file(".dockerignore", "*.log\n.dockerignore")
        .build(APP);
    let file = File::options()
        .write(true)
        .open(bench.context.join("main.py"))
        .expect("a file");
    file.set_modified(SystemTime::now() - Duration::from_secs(9999))
        .expect("its time");
    bench.file("debug.log", "x").build(APP);
    assert_eq!(bench.cached(), [true; 7]);
    bench.file("new.py", "x").build(APP);
    assert_eq!(bench.cached(), [true, true, true, true, false, false, true]);
}

#[test]
fn configuration_touches_no_layer_but_variables_do() {
    let bench = Bench::with_base();
    bench.build("FROM base:1\nLABEL v=1\nRUN touch /x");
    bench.build("FROM base:1\nLABEL v=2\nEXPOSE 80\nRUN touch /x");
    assert_eq!(bench.cached(), [true, true, true, true]);
    bench.build("FROM base:1\nENV V=2\nRUN touch /x");
    assert_eq!(bench.cached(), [true, true, false]);
    let dockerfile = "FROM base:1\nRUN touch /y\nARG V\nRUN touch /z";
    let mut request = bench.request(dockerfile);
    request.args.insert("V".to_owned(), "1".to_owned());
    bench.try_request(&request).expect("it builds");
    request.args.insert("V".to_owned(), "2".to_owned());
    request
        .args
        .insert("HTTPS_PROXY".to_owned(), "http://proxy.example".to_owned());
    bench.try_request(&request).expect("it builds");
    assert_eq!(bench.cached(), [true, true, true, false]);
    request
        .args
        .insert("HTTPS_PROXY".to_owned(), "http://other.example".to_owned());
    bench.try_request(&request).expect("it builds");
    assert_eq!(bench.cached(), [true, true, true, true]);
}

#[test]
fn no_cache_runs_everything_and_keeps_the_results() {
    let bench = app();
    bench.build(APP);
    let mut request = bench.request(APP);
    request.no_cache = true;
    bench.try_request(&request).expect("it builds");
    assert_eq!(
        bench.cached(),
        [true, false, false, false, false, false, true]
    );
    bench.build(APP);
    assert_eq!(bench.cached(), [true; 7]);
}

#[test]
fn a_lost_layer_is_made_again() {
    let bench = app();
    let first = bench.build(APP);
    let top = first.layers.last().expect("a layer");
    let path = bench
        .images
        .layer_paths(std::slice::from_ref(top))
        .expect("it is read");
    let folder = path.expect("it is there")[0]
        .parent()
        .expect("a folder")
        .to_owned();
    fs::remove_dir_all(folder).expect("it is removed");
    let again = bench.build(APP);
    assert_eq!(bench.cached(), [true, true, true, true, true, false, true]);
    assert_eq!(
        bench.text(&again, "app/listing"),
        "installed\nlisting\nmain.py\nrequirements.txt\n"
    );
}

/// A context that is never at rest: what was copied must lie under the key of what was copied.
#[test]
fn files_that_change_during_the_build_poison_nothing() {
    let bench = Bench::with_base();
    for index in 0..50 {
        bench.file(&format!("d/{index:02}"), "0");
    }
    let (busy, new) = (bench.context.join("d/25"), bench.context.join("new"));
    // As editors save: the content is the old or the new, never in between.
    let put = |content: &str| {
        fs::write(&new, content).expect("a file");
        fs::rename(&new, &busy).expect("it is renamed");
    };
    for round in 0..6 {
        let dockerfile = format!("FROM base:1\nCOPY d /{round}");
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    put("1");
                    put("2");
                }
            });
            let result = bench.try_build(&dockerfile);
            stop.store(true, Ordering::Relaxed);
            if let Err(error) = result {
                let text = report(&error);
                assert!(text.contains("keep changing"), "{text}");
            }
        });
        for content in ["1", "2"] {
            put(content);
            let image = bench.build(&dockerfile);
            assert_eq!(bench.text(&image, &format!("{round}/25")), content);
        }
    }
}

#[test]
fn a_file_saved_during_a_command_is_taken_as_it_is_then() {
    let bench = Bench::with_base();
    let path = bench.file("a", "before").context.join("a");
    *bench.runner.before.lock().expect("no panic") =
        Some(Box::new(move || fs::write(&path, "after").expect("a file")));
    let image = bench.build("FROM base:1\nCOPY a /1\nRUN touch /x\nCOPY a /2");
    assert_eq!(bench.text(&image, "1"), "before");
    assert_eq!(bench.text(&image, "2"), "after");
}

/// Counts how often files of some folders are opened.
struct Opened(OwnedFd);

impl Opened {
    fn in_folders(folders: impl Iterator<Item = PathBuf>) -> Self {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC);
        let inotify = inotify.expect("inotify");
        for folder in folders {
            inotify::add_watch(&inotify, folder, WatchFlags::OPEN).expect("a watch");
        }
        Self(inotify)
    }

    /// Since the last call.
    fn count(&self) -> usize {
        let mut space = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.0, &mut space);
        let mut count = 0;
        loop {
            match reader.next() {
                Ok(event) => count += usize::from(!event.events().contains(ReadFlags::ISDIR)),
                Err(Errno::WOULDBLOCK) => return count,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn a_build_opens_each_file_once_for_its_key_and_once_to_copy_it() {
    const FILES: usize = 400;
    let bench = app();
    for index in 0..FILES {
        bench.file(&format!("lib/m{}/f{index}.py", index % 20), "line\n");
    }
    let folders = (0..20).map(|index| bench.context.join(format!("lib/m{index}")));
    let opened = Opened::in_folders(folders);
    bench.build(APP);
    assert_eq!(opened.count(), 2 * FILES);
    bench.build(APP);
    assert_eq!(bench.cached(), [true; 7]);
    assert_eq!(opened.count(), FILES);
    bench.file("main.py", "print(2)").build(APP);
    assert_eq!(opened.count(), 2 * FILES);
}
