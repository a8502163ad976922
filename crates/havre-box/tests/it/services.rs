//! Services beside a box.

use havre_box::{BoxError, Ending};

use crate::harness::{Place, Test, host, image, service, unhealthy};

pub const TESTS: &[(&str, Test)] = &[
    ("services_are_healthy_and_on_localhost_of_a_host_box", |p| {
        Box::pin(on_localhost(p))
    }),
    ("services_have_names_beside_an_image", |p| {
        Box::pin(by_name(p))
    }),
    ("a_box_that_waits_for_services_can_be_ended", |p| {
        Box::pin(ended_while_waiting(p))
    }),
    ("services_that_are_not_fit_say_why", |p| Box::pin(unfit(p))),
];

/// Answers on a port once it is up.
fn web(port: u16) -> String {
    format!("echo from $0 > /www/index.html; sleep 0.3; httpd -f -p {port} -h /www")
}

async fn on_localhost(place: &Place) {
    let mut request = host(
        "b1",
        "python3 -c 'import urllib.request as u; print(u.urlopen(\"http://localhost:80\").read())'; \
         python3 -c 'import urllib.request as u; print(u.urlopen(\"http://web\").status)'; \
         python3 -c 'import urllib.request as u; print(u.urlopen(\"http://alias:80\").status)'",
    );
    let options = "--health-cmd 'wget -q -O /dev/null http://127.0.0.1:80' --health-interval 10s --network-alias alias --name x";
    request.services = vec![
        service("web", &web(80), options),
        service("idle", "sleep 1000", ""),
    ];
    let started = place.boxes.start(request).await.expect("started");
    assert!(
        started.warnings.iter().any(|it| it.contains("--name x")),
        "{started:?}"
    );
    assert!(
        started.services.as_millis() >= 250 && started.services.as_secs() < 8,
        "{started:?}"
    );
    let (told, ending) = place.told("b1").await;
    let lines = crate::harness::lines(&told);
    assert!(
        matches!(ending, Ending::Exited { code: 0, .. }),
        "{lines:?}"
    );
    assert_eq!(lines[1..], ["200", "200"], "{lines:?}");
}

async fn by_name(place: &Place) {
    // Both have the same port.
    let mut request = image(
        "b1",
        "wget -q -O - http://one:8080; wget -q -O - http://two:8080; wget -q -O - http://localhost:8080 || echo nobody",
    );
    let probe = |port: u16| format!("--health-cmd 'wget -q -O /dev/null http://127.0.0.1:{port}'");
    let named = |name: &str| {
        let script = web(8080).replace("$0", name);
        let mut service = service(name, &script, &probe(8080));
        service.env = vec![("UNUSED".to_owned(), "x".to_owned())];
        service
    };
    request.services = vec![named("one"), named("two")];
    let (lines, ending) = place.run(request).await;
    assert!(
        matches!(ending, Ending::Exited { code: 0, .. }),
        "{lines:?}"
    );
    let said: Vec<_> = lines.iter().filter(|line| !line.contains("wget")).collect();
    assert_eq!(said, ["from one", "from two", "nobody"], "{lines:?}");
}

async fn unfit(place: &Place) {
    let check = async |id: &str, script: &str, options: &str, texts: &[&str]| {
        let mut request = host(id, "true");
        request.services = vec![
            service("good", "sleep 1000", ""),
            service("bad", script, options),
        ];
        let error = place.boxes.start(request).await.expect_err("not fit");
        let said = unhealthy(&error);
        assert!(matches!(error, BoxError::Unhealthy { .. }), "{said}");
        for text in texts {
            assert!(said.contains(text), "{text}: {said}");
        }
        assert!(place.boxes.list().expect("a list").is_empty());
    };
    let probe = "--health-cmd 'echo not yet; false' --health-interval 200ms --health-retries 2";
    check(
        "b1",
        "echo my last words; sleep 1000",
        probe,
        &["bad is unhealthy", "not yet", "my last words"],
    )
    .await;
    let ended = ["bad ended with code 7", "cannot begin"];
    check(
        "b2",
        "echo cannot begin; exit 7",
        "--health-cmd true --health-interval 20s --health-start-period 20s",
        &ended,
    )
    .await;
}

async fn ended_while_waiting(place: &Place) {
    for (id, remove) in [("b1", true), ("b2", false)] {
        let mut request = host(id, "true");
        let probe = "--health-cmd false --health-interval 100s";
        request.services = vec![service("never", "sleep 1000", probe)];
        let boxes = place.boxes.clone();
        let starting = tokio::spawn(async move { boxes.start(request).await });
        let deadline = tokio::time::Instant::now() + crate::harness::DEADLINE;
        while place.engine.containers().is_empty() {
            assert!(tokio::time::Instant::now() < deadline, "never started");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        match remove {
            true => assert_eq!(place.boxes.remove(id).await, [""; 0]),
            false => place.boxes.cancel(id, false).await.expect("cancelled"),
        }
        let started = starting.await.expect("no panic");
        assert!(matches!(started, Err(BoxError::Cancelled)), "{started:?}");
        assert!(place.boxes.list().expect("a list").is_empty());
    }
}
