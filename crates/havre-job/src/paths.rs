//! Where things are in a box: what makes boxes and what runs in them agree on it.

/// The binary; with [`LOADER`] and [`LIBRARIES`] it runs in any image, whatever that holds.
pub const BINARY: &str = "/run/havre/bin/havre";
/// The dynamic loader of [`BINARY`].
pub const LOADER: &str = "/run/havre/lib/loader";
/// Libraries of [`BINARY`].
pub const LIBRARIES: &str = "/run/havre/lib";
/// Programs behind all others in PATH: `havre`, and `sudo` where the image has none.
pub const PROGRAMS: &str = "/run/havre/programs";
/// `docker`, as far as it is there without Docker: before all others in PATH on the machine's own programs, behind them
/// in an image.
pub const DOCKER: &str = "/run/havre/programs/docker";
/// The repository, bare, for reading only.
pub const REPOSITORY: &str = "/run/havre/repository.git";
/// What serves artifacts and caches is in it: whoever serves them anew makes a socket anew.
pub const RESULTS_FOLDER: &str = "/run/havre/results";
/// What serves artifacts and caches.
pub const RESULTS_SOCKET: &str = "/run/havre/results/results.sock";
/// The certificate of this machine's own authority, where a job may need it; in [`RESULTS_FOLDER`].
pub const AUTHORITY: &str = "/run/havre/results/ca.pem";
/// Who builds images for the job.
pub const IMAGES_SOCKET: &str = "/run/havre/results/images.sock";
/// The home folder of jobs.
pub const HOME: &str = "/home/runner";
/// Workspaces are below it, as `<repository>/<repository>`.
pub const WORK: &str = "/home/runner/work";
/// Scratch space of a job.
pub const TEMP: &str = "/home/runner/work/_temp";
/// Actions from elsewhere: `<owner>/<repository>/<commit>`; of what the runner fetches itself, `<reference>`.
pub const ACTIONS: &str = "/home/runner/work/_actions";
/// Tools that jobs keep.
pub const TOOL_CACHE: &str = "/opt/hostedtoolcache";

/// What leads to a port of the machine's proxy: a name in [`RESULTS_FOLDER`].
pub fn door(port: u16) -> String {
    format!("door-{port}.sock")
}
