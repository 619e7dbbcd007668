//! Streams a run's progress as server-sent events until it ends.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    response::sse::{Event, KeepAlive, Sse},
};
use futures::{Stream, stream};
use lastgood_jobs::{attempt::RunId, error::chain};
use uuid::Uuid;

use super::{
    Api,
    access::Reader,
    problem::{Kind, Problem},
    read::Named,
    streams::Place,
};
use crate::nouns::Run;

/// How often the stream asks the catalog for the run.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// After how many of these polls the token is checked again, so that revoking it ends its streams.
const LOOKS_TO_TOKEN: u32 = 10;
/// How many polls in a row may go unanswered before the stream ends.
const PATIENCE: u32 = 60;

/// Follow a run to its end
///
/// Sends server-sent events named `run`, each with the run as in `GET /runs/{id}`, but without its attempts: one at once, one for each
/// change, and a last one when the run has ended. Then the stream ends. If it ends earlier (after a restart, for example), open it again.
#[utoipa::path(
    get, path = "/runs/{id}/events", tag = "runs", operation_id = "follow_run", security(("token" = ["read"])),
    params(("id" = Uuid, Path, description = "The run's id")),
    responses(
        (status = 200, description = "The events", body = String, content_type = "text/event-stream"),
        (status = 429, description = "Too many event streams are open: try again, or poll the run instead"),
    )
)]
pub(super) async fn follow(
    Reader(caller): Reader,
    State(api): State<Arc<Api>>,
    Named(id): Named,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let run = caller.run(&api, &id).await?;
    let place = api.streams.open(caller.token_id()).ok_or_else(|| {
        let detail = "too many event streams are open, for this token or in this process: try again, or poll the run instead";
        Problem::new(Kind::Limited, detail).after(10)
    })?;
    let following = Following {
        api,
        token: caller.token_id(),
        run: run.id,
        told: None,
        looks: 0,
        unanswered: 0,
        _place: place,
    };
    let events = stream::unfold(Some(following), async |following| {
        let mut following = following?;
        let (event, is_last) = following.next().await?;
        Some((Ok(event), (!is_last).then_some(following)))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

struct Following {
    api: Arc<Api>,
    token: Uuid,
    run: RunId,
    told: Option<Run>,
    looks: u32,
    unanswered: u32,
    _place: Place,
}

impl Following {
    /// Returns the next event and whether it is the last, or `None` if the stream ends without another one.
    async fn next(&mut self) -> Option<(Event, bool)> {
        loop {
            if self.looks > 0 {
                tokio::select! {
                    () = self.api.stop.cancelled() => return None,
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
            }
            self.looks += 1;
            if self.looks.is_multiple_of(LOOKS_TO_TOKEN) && !self.is_welcome().await {
                return None;
            }
            let run = match self.api.catalog.run(self.run).await {
                Ok(run) => run,
                Err(error) if error.may_pass() && self.unanswered < PATIENCE => {
                    self.unanswered += 1;
                    continue;
                }
                Err(error) => {
                    tracing::warn!(error = chain(&error), run.id = %self.run, "an event stream ends early");
                    return None;
                }
            };
            self.unanswered = 0;
            let is_last = run.state.has_ended();
            // A renewal of the lease is no news.
            let news = Run {
                lease_expires_at: None,
                ..run.clone()
            };
            if self.told.as_ref() == Some(&news) {
                continue;
            }
            let event = Event::default().event("run").json_data(&run).ok()?;
            self.told = Some(news);
            return Some((event, is_last));
        }
    }

    /// Returns whether the token is still valid. While the catalog does not answer, streams stay open.
    async fn is_welcome(&self) -> bool {
        self.api
            .catalog
            .is_token_good(self.token)
            .await
            .unwrap_or(true)
    }
}
