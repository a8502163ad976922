//! The example, used as a person would: a PDF goes in, normalised sentences come out.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::instance::{Instance, example};
use crate::shell::{command, read, say, succeed, wait_until};

/// How long the worker may take for the sample.
const JOB_DEADLINE: Duration = Duration::from_secs(60);
/// White space before French punctuation makes words of marks.
const LENIENCE: u64 = 6;

/// Verifies the example at `host` over HTTPS.
pub fn end_to_end(instance: &Instance, host: &str) -> Result<()> {
    let client = Client::new(instance, host)?;
    say("checking the front end");
    let page = client.get("/")?;
    ensure!(
        page.contains("<html"),
        "the front end answers with no page: {page:.200}"
    );

    say("checking that plain HTTP leads to HTTPS");
    let redirect = client.head_http()?;
    ensure!(
        redirect.contains("https://"),
        "plain HTTP is not redirected: {redirect}"
    );

    say("uploading a PDF");
    let pdf = instance.root.join("sample.pdf");
    succeed(
        command("python3")
            .arg(example().join("make_pdf.py"))
            .arg(&pdf),
    )?;
    let answer = client.upload("/api/v1/jobs", &pdf.to_string_lossy())?;
    let created: Value = serde_json::from_str(&answer).context(answer)?;
    let id = created["id"]
        .as_str()
        .with_context(|| format!("the upload answers without an id: {created}"))?
        .to_owned();

    say("watching its progress");
    let events = client.events(&format!("/api/v1/jobs/{id}/events"))?;
    ensure!(
        events.contains("data:"),
        "no server-sent events: {events:.200}"
    );

    let path = format!("/api/v1/jobs/{id}");
    let job = wait_until("the job ends", JOB_DEADLINE, || {
        let job: Value = serde_json::from_str(&client.get(&path)?)?;
        match job["status"].as_str() {
            Some("done") => Ok(Some(job)),
            Some("failed") => bail!("the job failed: {job}"),
            _ => Ok(None),
        }
    })?;
    let page: Value = serde_json::from_str(&client.get(&format!("{path}/sentences?limit=500"))?)?;
    verify(&job, &page)?;

    say("checking the export");
    let csv = client.get(&format!("{path}/export?format=csv"))?;
    ensure!(csv.lines().count() > 1, "the CSV export is empty: {csv}");
    Ok(())
}

/// The back end at `host` answers with this version.
pub fn version(instance: &Instance, host: &str, wanted: &str) -> Result<()> {
    let answer = Client::new(instance, host)?.get("/api/v1/version")?;
    ensure!(
        answer.contains(&format!("\"{wanted}\"")),
        "{host} answers with another version than {wanted}: {answer}"
    );
    Ok(())
}

/// Sentences came out, some were rewritten, and none but those the job counts as too long exceeds
/// its limit of words.
fn verify(job: &Value, page: &Value) -> Result<()> {
    let limit = job["word_limit"]
        .as_u64()
        .context("the job has no limit of words")?;
    let counted = job["sentences"]["too_long"]
        .as_u64()
        .context("the job has no counts")?;
    let read = page["sentences"]
        .as_array()
        .context("the job has no sentences")?;
    ensure!(!read.is_empty(), "the job has no sentences");
    let mut long = 0;
    let mut produced = 0;
    for sentence in read {
        let parts = sentence["sentences"]
            .as_array()
            .context("a sentence was not worked on")?;
        for part in parts {
            let text = part.as_str().context("a sentence is no text")?;
            ensure!(!text.trim().is_empty(), "an empty sentence came out");
            produced += 1;
            long += u64::from(text.split_whitespace().count() as u64 > limit + LENIENCE);
        }
    }
    ensure!(
        long <= counted,
        "{long} sentences are too long, the job counts {counted}"
    );
    ensure!(produced > read.len(), "no sentence was divided: {job}");
    say(&format!(
        "{} sentences went in, {produced} came out",
        read.len()
    ));
    Ok(())
}

/// curl with the right certificate and address.
struct Client<'a> {
    instance: &'a Instance,
    host: &'a str,
    ca: String,
}

impl<'a> Client<'a> {
    fn new(instance: &'a Instance, host: &'a str) -> Result<Self> {
        Ok(Self {
            instance,
            host,
            ca: instance.ca()?.to_string_lossy().into_owned(),
        })
    }

    fn curl(&self) -> Command {
        let mut curl = command("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--fail-with-body",
            "--max-time",
            "30",
        ]);
        curl.args(["--cacert", &self.ca]);
        for port in [self.instance.https, self.instance.http] {
            curl.args(["--resolve", &format!("{}:{port}:127.0.0.1", self.host)]);
        }
        // A proxy of this machine is not between us and the loopback interface.
        curl.args(["--noproxy", "*"]);
        curl
    }

    fn get(&self, path: &str) -> Result<String> {
        read(self.curl().arg(self.instance.url(self.host, path)))
    }

    fn head_http(&self) -> Result<String> {
        let url = format!("http://{}:{}/", self.host, self.instance.http);
        read(self.curl().args([
            "--output",
            "/dev/null",
            "--write-out",
            "%{redirect_url}",
            &url,
        ]))
    }

    fn upload(&self, path: &str, file: &str) -> Result<String> {
        let form = format!("file=@{file};type=application/pdf");
        read(
            self.curl()
                .args(["--form", &form])
                .arg(self.instance.url(self.host, path)),
        )
    }

    /// Reads an event stream until the server ends it.
    fn events(&self, path: &str) -> Result<String> {
        let url = self.instance.url(self.host, path);
        read(
            self.curl()
                .args(["--no-buffer", "--header", "Accept: text/event-stream", &url]),
        )
    }
}
