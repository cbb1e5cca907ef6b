//! What may be asked of which role: the one table that `/openapi.json` is made of and every
//! role's router is held against.

use utoipa::ToSchema;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::openapi::{Ref, RefOr};

use crate::{
    AccessLog, AccountView, AgentStatus, AllocationView, Bill, BlockView, ChainStatus, CopySpan,
    DeploymentView, DutiesView, EventProof, EventView, ExecFrame, HostPlan, HostView, JobsView,
    Keeper, LimitView, LogLine, LotsView, LotteryExport, LotteryView, MembersView, NetworkFile,
    ProposalView, PublishedPort, QueueView, Quote, QuoteRequest, RecordsProof, ReleaseView,
    RequestFigures, RequestsPast, Routes, SecretShares, Stats, StatsSample, Submit, SubmitMany,
    Submitted, SubmittedOne, Supply, TokenView, TransactionView, TurnsView, UsageProof, UseView,
    ValidatorQueue, WhenView, WhyView,
};

/// Who answers. A gateway passes on what the others answer, on one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Validator,
    Host,
    Gateway,
    Registry,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Validator, Self::Host, Self::Gateway, Self::Registry];

    pub fn name(self) -> &'static str {
        match self {
            Self::Validator => "validator",
            Self::Host => "host",
            Self::Gateway => "gateway",
            Self::Registry => "registry",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

pub(crate) type Schemas = Vec<(String, RefOr<Schema>)>;

/// A body that is sent or answered.
#[derive(Clone, Copy)]
pub struct Body {
    pub media: &'static str,
    pub(crate) schema: fn(&mut Schemas) -> RefOr<Schema>,
}

/// One method of one path, as the roles in `roles` answer it.
pub struct Endpoint {
    pub method: Method,
    pub path: &'static str,
    pub roles: &'static [Role],
    pub summary: &'static str,
    /// Names of the query and what they mean.
    pub query: &'static [(&'static str, &'static str)],
    pub sent: Option<Body>,
    pub answer: Body,
    /// Only with a [`crate::RequestAuth`] header of the owner.
    pub signed: bool,
}

impl Endpoint {
    fn query(mut self, names: &'static [(&'static str, &'static str)]) -> Self {
        self.query = names;
        self
    }

    fn sent(mut self, body: Body) -> Self {
        self.sent = Some(body);
        self
    }

    fn signed(mut self) -> Self {
        self.signed = true;
        self
    }
}

fn named<T: ToSchema>(schemas: &mut Schemas) -> RefOr<Schema> {
    T::schemas(schemas);
    schemas.push((T::name().into(), T::schema()));
    Ref::from_schema_name(T::name()).into()
}

fn listed<T: ToSchema>(schemas: &mut Schemas) -> RefOr<Schema> {
    Schema::from(ArrayBuilder::new().items(named::<T>(schemas)).build()).into()
}

fn object(_: &mut Schemas) -> RefOr<Schema> {
    Schema::from(ObjectBuilder::new().schema_type(Type::Object).build()).into()
}

fn objects(schemas: &mut Schemas) -> RefOr<Schema> {
    Schema::from(ArrayBuilder::new().items(object(schemas)).build()).into()
}

pub(crate) fn text(_: &mut Schemas) -> RefOr<Schema> {
    Schema::from(ObjectBuilder::new().schema_type(Type::String).build()).into()
}

/// A validator's or a host agent's, by whose address it is.
fn either_status(schemas: &mut Schemas) -> RefOr<Schema> {
    let one = OneOfBuilder::new()
        .item(named::<ChainStatus>(schemas))
        .item(named::<AgentStatus>(schemas));
    Schema::from(one.build()).into()
}

pub(crate) fn problem(schemas: &mut Schemas) -> RefOr<Schema> {
    named::<crate::Problem>(schemas)
}

const fn body(media: &'static str, schema: fn(&mut Schemas) -> RefOr<Schema>) -> Body {
    Body { media, schema }
}

const fn json(schema: fn(&mut Schemas) -> RefOr<Schema>) -> Body {
    body("application/json", schema)
}

const fn lines(schema: fn(&mut Schemas) -> RefOr<Schema>) -> Body {
    body("application/x-ndjson", schema)
}

const PLAIN: Body = body("text/plain", text);
const BYTES: Body = body("application/octet-stream", text);

const VALIDATOR: &[Role] = &[Role::Validator];
const HOST: &[Role] = &[Role::Host];
const GATEWAY: &[Role] = &[Role::Gateway];
const REGISTRY: &[Role] = &[Role::Registry];

const WAIT: (&str, &str) = (
    "wait_ms",
    "Hold the answer back so long at most, in milliseconds; up to 30000.",
);
const OWNER: (&str, &str) = ("owner", "Only this account's.");
const DEPLOYMENT: (&str, &str) = ("deployment", "Only of this deployment.");
const FROM: (&str, &str) = (
    "from",
    "First row wanted; the header runrig-next names the next page's.",
);

fn get(
    roles: &'static [Role],
    path: &'static str,
    summary: &'static str,
    answer: Body,
) -> Endpoint {
    Endpoint {
        method: Method::Get,
        path,
        roles,
        summary,
        query: &[],
        sent: None,
        answer,
        signed: false,
    }
}

fn other(
    method: Method,
    roles: &'static [Role],
    path: &'static str,
    summary: &'static str,
    answer: Body,
) -> Endpoint {
    Endpoint {
        method,
        ..get(roles, path, summary, answer)
    }
}

/// All of them, in the order of the document.
pub fn endpoints() -> Vec<Endpoint> {
    let mut all = of_every_role();
    all.extend(of_validators());
    all.extend(of_hosts());
    all.extend(of_gateways());
    all.extend(of_registries());
    all
}

/// Paths that `role` itself answers, each once.
pub fn paths_of(role: Role) -> Vec<&'static str> {
    let mut paths: Vec<&'static str> = endpoints()
        .iter()
        .filter(|e| e.roles.contains(&role))
        .map(|e| e.path)
        .collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}

fn of_every_role() -> Vec<Endpoint> {
    vec![
        get(
            &Role::ALL,
            "/healthz",
            "Whether this process answers.",
            PLAIN,
        ),
        get(&Role::ALL, "/metrics", "Figures for Prometheus.", PLAIN),
        get(
            VALIDATOR,
            "/openapi.json",
            "This description.",
            json(object),
        ),
        get(
            &[Role::Validator, Role::Host],
            "/v1/status",
            "A validator's finalised head; of a host, by its own address, what its agent does.",
            json(either_status),
        ),
    ]
}

fn of_validators() -> Vec<Endpoint> {
    let get = |path, summary, answer| get(VALIDATOR, path, summary, answer);
    let post = |path, summary, answer| other(Method::Post, VALIDATOR, path, summary, answer);
    vec![
        get(
            "/v1/network",
            "What takes part in the network starts from.",
            json(named::<NetworkFile>),
        ),
        get("/v1/params", "Network parameters.", json(object)),
        get(
            "/v1/supply",
            "All money, by genesis and added up now.",
            json(named::<Supply>),
        ),
        get(
            "/v1/blocks/{height}",
            "A block, its certificate and what came of its transactions.",
            json(named::<BlockView>),
        ),
        get(
            "/v1/lots/{epoch}",
            "The drawing of an epoch's committee, with what proves it.",
            json(named::<LotsView>),
        ),
        get(
            "/v1/proposals",
            "Changes of parameters that are, or were, voted on; the latest first.",
            json(listed::<ProposalView>),
        )
        .query(&[FROM]),
        get(
            "/v1/proposals/{id}",
            "A change that is, or was, voted on.",
            json(named::<ProposalView>),
        ),
        get(
            "/v1/lotteries",
            "Rounds of the public drawing service, the latest first.",
            json(listed::<LotteryView>),
        )
        .query(&[FROM]),
        get(
            "/v1/lotteries/{id}",
            "A round: terms, entries, who won.",
            json(named::<LotteryView>),
        ),
        get(
            "/v1/lotteries/{id}/export",
            "All that proves a round.",
            json(named::<LotteryExport>),
        ),
        get(
            "/v1/duties/{epoch}",
            "What validators did in an epoch, as far as blocks show it.",
            json(named::<DutiesView>),
        ),
        get(
            "/v1/when/{what}",
            "Between which two times a transaction (by id) or a block (by height) came about, \
             with what proves it.",
            json(named::<WhenView>),
        ),
        get(
            "/v1/validators",
            "Who may be drawn to vote, and what the next one needs to enter.",
            json(named::<MembersView>),
        ),
        get(
            "/v1/validators/doubles",
            "Leaders whom this validator saw make two blocks for one view, with the two seals \
             that convict each.",
            json(objects),
        ),
        get(
            "/v1/queue",
            "How the validator that answers stands, and what waits there.",
            json(named::<QueueView>),
        ),
        get(
            "/v1/turns",
            "Turns in which no block was made, whose they were, and ceremonies that failed: the newest \
             rows, at most 1000, in order.",
            json(listed::<TurnsView>),
        )
        .query(&[
            ("since_ms", "Only from then on."),
            ("until", "Only blocks up to this height."),
        ]),
        get(
            "/v1/witness/{key}",
            "What is asked of a witness now: the round, and what its lot is a signature of.",
            json(object),
        ),
        get(
            "/v1/witness/{key}/{lot}",
            "What the witness with this lot looks at in the round: RFD 21.",
            json(objects),
        ),
        get(
            "/v1/follow/{height}",
            "Final blocks from a height on with what certifies them, for validators without a seat.",
            BYTES,
        )
        .query(&[WAIT]),
        get(
            "/v1/sync",
            "The end of an epoch that a newcomer may start from, certified.",
            BYTES,
        ),
        get(
            "/v1/sync/{height}/{number}",
            "A piece of the state there, with the proof that it is.",
            BYTES,
        ),
        get(
            "/v1/records/{table}",
            "Records of the ledger's state, or that there are none, proved under a certified block.",
            json(named::<RecordsProof>),
        )
        .query(&[(
            "keys",
            "canonical bytes of the records' keys in hex, apart by commas; 100 at most",
        )]),
        get(
            "/v1/accounts/{id}",
            "An account.",
            json(named::<AccountView>),
        ),
        get(
            "/v1/accounts/{id}/limit",
            "What an account may spend in a month, has spent, and what stops first.",
            json(named::<LimitView>),
        )
        .query(&[(
            "count",
            "Projects to list at most; up to 1000, which is the default.",
        )]),
        get(
            "/v1/accounts/{id}/tokens",
            "Tokens of an account that no machine has joined with yet.",
            json(listed::<TokenView>),
        ),
        get(
            "/v1/tokens/{id}",
            "A token that no machine has joined with yet, by the account of its key.",
            json(named::<TokenView>),
        ),
        get("/v1/hosts", "Registered hosts.", json(listed::<HostView>)).query(&[FROM]),
        get(
            "/v1/hosts/{id}",
            "A host, by id or name.",
            json(named::<HostView>),
        ),
        get(
            "/v1/hosts/{id}/plan",
            "What should run on a host.",
            json(named::<HostPlan>),
        )
        .query(&[
            ("after", "Held back until the plan's number is greater."),
            WAIT,
        ]),
        get(
            "/v1/deployments",
            "Deployments.",
            json(listed::<DeploymentView>),
        )
        .query(&[
            OWNER,
            ("all", "Removed ones too."),
            (
                "names",
                "Only the live ones of these names, apart by commas; 64 at most, of one owner.",
            ),
            FROM,
        ]),
        get(
            "/v1/jobs",
            "An account's deployments: how many are in which state, and a page of those that fit, \
             the latest first.",
            json(named::<JobsView>),
        )
        .query(&[
            ("owner", "Whose; must be said."),
            (
                "state",
                "Only those in it; active (the default): neither removed nor completed; all.",
            ),
            ("name", "Only of this name."),
            (
                "text",
                "Only those whose name, an image or a host has it in its name; case is no matter.",
            ),
            (
                "sort",
                "By name, state, cpu, memory, charged or age, the least first; with a - in front, the \
                 most first. As if it were age if not said; the removed are always last.",
            ),
            ("from", "Number of the row to begin with; the first is 0."),
            ("count", "Rows at most; up to 100, which is the default."),
        ]),
        get(
            "/v1/jobs/use",
            "What an account's replicas used of what was held for them, by name.",
            json(named::<UseView>),
        )
        .query(&[
            ("owner", "Whose; must be said."),
            ("since_ms", "Only those that were there since then."),
            ("from", "Number of the row to begin with; the first is 0."),
            ("count", "Rows at most; up to 1000, which is the default."),
        ]),
        get(
            "/v1/deployments/{id}",
            "A deployment.",
            json(named::<DeploymentView>),
        ),
        get(
            "/v1/deployments/{id}/releases",
            "Its releases, the latest first.",
            json(listed::<ReleaseView>),
        ),
        get(
            "/v1/allocations",
            "Replicas of an account, a deployment or on a host.",
            json(listed::<AllocationView>),
        )
        .query(&[
            OWNER,
            DEPLOYMENT,
            ("host", "Only on this host."),
            ("all", "Ended ones too."),
            FROM,
        ]),
        get(
            "/v1/allocations/{id}",
            "A replica.",
            json(named::<AllocationView>),
        ),
        get(
            "/v1/allocations/{id}/why",
            "Why a replica is where it is.",
            json(named::<WhyView>),
        ),
        get(
            "/v1/allocations/{id}/keepers",
            "Hosts that keep copies of a replica's log, best first.",
            json(listed::<Keeper>),
        ),
        get(
            "/v1/allocations/{id}/secrets",
            "Shares of the keys of a replica's secrets, for its host alone.",
            json(named::<SecretShares>),
        )
        .query(&[("to", "The key that the host made for this request, hex.")])
        .signed(),
        get("/v1/routes", "Where requests go.", json(named::<Routes>)).query(&[
            ("after", "Held back until routes changed after this height."),
            (
                "table",
                "Of the answer that `after` is from: only what changed since is told, if it is known.",
            ),
            WAIT,
        ]),
        get(
            "/v1/ports",
            "Which ports from `first` to `last` are published, and by which deployments.",
            json(listed::<PublishedPort>),
        )
        .query(&[
            ("first", "1 if not said."),
            ("last", "65535 if not said."),
        ]),
        post(
            "/v1/quote",
            "What a deployment would cost and change.",
            json(named::<Quote>),
        )
        .sent(json(named::<QuoteRequest>)),
        post(
            "/v1/transactions",
            "Submit a signed transaction.",
            json(named::<Submitted>),
        )
        .query(&[WAIT])
        .sent(json(named::<Submit>)),
        post(
            "/v1/transactions/batch",
            "Submit many signed transactions; each is queued or refused by itself.",
            json(listed::<SubmittedOne>),
        )
        .sent(json(named::<SubmitMany>)),
        get(
            "/v1/transactions/{id}",
            "What became of a transaction.",
            json(named::<TransactionView>),
        )
        .query(&[WAIT]),
        get(
            "/v1/events",
            "Events as they happen, the header runrig-next naming the first; \
             with Accept: application/json one page.",
            body("text/event-stream", named::<EventView>),
        )
        .query(&[
            OWNER,
            DEPLOYMENT,
            (
                "from",
                "Number of the first event wanted; from now on if not said.",
            ),
        ]),
        get(
            "/v1/bill",
            "The itemised bill of an account or a deployment.",
            json(named::<Bill>),
        )
        .query(&[OWNER, DEPLOYMENT]),
        get("/v1/receipts/{id}", "A settled usage line.", json(object)),
        get(
            "/v1/receipts/{id}/proof",
            "A receipt under its certified block.",
            json(named::<EventProof>),
        ),
    ]
}

fn of_hosts() -> Vec<Endpoint> {
    let get = |path, summary, answer| get(HOST, path, summary, answer);
    let put = |path, summary, answer| Endpoint {
        method: Method::Put,
        ..get(path, summary, answer)
    };
    vec![
        get(
            "/v1/hosts/{host}/copies/{id}",
            "The parts that this host keeps of a copy of a replica's log, for its readers.",
            json(listed::<CopySpan>),
        )
        .signed(),
        get(
            "/v1/hosts/{host}/copies/{id}/{first}",
            "A part of a copy, sealed to its readers.",
            BYTES,
        )
        .signed(),
        put(
            "/v1/hosts/{host}/copies/{id}/{first}",
            "Keep a part of a copy; from the host on which the replica is or was.",
            json(object),
        )
        .query(&[
            ("next", "Number behind its last line."),
            ("newest_ms", "When its newest line was written."),
            ("until_ms", "It is kept so long."),
        ])
        .sent(BYTES)
        .signed(),
        get(
            "/v1/allocations/{id}/logs",
            "What a replica printed, over all its containers, also when it is gone.",
            lines(named::<LogLine>),
        )
        .query(&[
            ("follow", "Go on with what is to come."),
            ("tail", "Only so many of the last lines."),
            ("from", "Only lines of this sequence and later: the cursor."),
            ("since_ms", "Only from then on."),
            ("until_ms", "Only before then."),
            (
                "grep",
                "Only lines in which this regular expression is found.",
            ),
            ("stream", "Only stdout, stderr or runrig."),
        ])
        .signed(),
        get(
            "/v1/allocations/{id}/stats",
            "What a replica uses now; also by the token of its deployment's metrics.",
            lines(named::<Stats>),
        )
        .query(&[("stream", "A sample each second, until the reader ends it.")])
        .signed(),
        get(
            "/v1/allocations/{id}/history",
            "What a replica used, of the last week at most, in steps that fit.",
            lines(named::<StatsSample>),
        )
        .query(&[
            ("since_ms", "Only from then on."),
            ("until_ms", "Only before then."),
        ])
        .signed(),
        get(
            "/v1/allocations/{id}/inspect",
            "All that its host knows of a replica.",
            json(object),
        )
        .signed(),
        get(
            "/v1/allocations/{id}/exec",
            "A command in a container: a WebSocket of frames, ExecFrame::Start first.",
            json(named::<ExecFrame>),
        )
        .signed(),
        get(
            "/v1/allocations/{id}/usage/{sequence}",
            "A usage record under the root that its host reported.",
            json(named::<UsageProof>),
        ),
        get(
            "/v1/allocations/{id}/tunnel/{port}",
            "Bytes to a published or exposed port, after Upgrade: runrig-tunnel; signed, to any.",
            BYTES,
        ),
    ]
}

fn of_gateways() -> Vec<Endpoint> {
    vec![
        get(
            GATEWAY,
            "/",
            "What this is, for people.",
            body("text/html", text),
        ),
        get(
            GATEWAY,
            "/v1/gateway",
            "How this gateway is: its validators, routes and published ports.",
            json(object),
        ),
        get(
            GATEWAY,
            "/v1/gateway/queues",
            "How each validator of this gateway stands, and what waits there; asked at most once \
             in a second.",
            json(listed::<ValidatorQueue>),
        ),
        get(
            GATEWAY,
            "/v1/deployments/{id}/access",
            "The last requests that this gateway has served for a deployment.",
            json(named::<AccessLog>),
        )
        .query(&[
            ("service", "Only of this service."),
            ("tail", "So many at most; up to 1000."),
            ("from", "From this sequence on; needs service."),
            WAIT,
        ])
        .signed(),
        get(
            GATEWAY,
            "/v1/deployments/{id}/requests",
            "How many requests its replicas answer, how well and how fast, as this gateway sees it.",
            json(named::<RequestFigures>),
        )
        .query(&[
            ("since_ms", "Minutes of the last hour from then on, too."),
            ("until_ms", "Only minutes before then."),
        ])
        .signed(),
        get(
            GATEWAY,
            "/v1/accounts/{id}/requests",
            "What an account's services were asked in each hour or day, as this gateway saw it, those \
             that run no more among them.",
            json(named::<RequestsPast>),
        )
        .query(&[
            ("by", "hour (kept for 35 days) or day (400 days)."),
            ("since_ms", "Steps that begin from then on."),
            ("until_ms", "Only steps that begin before then."),
        ])
        .signed(),
        get(
            GATEWAY,
            "/v1/deployments/{id}/metrics",
            "Figures of a deployment for Prometheus, with Authorization: Bearer and a token of its owner.",
            PLAIN,
        ),
    ]
}

fn of_registries() -> Vec<Endpoint> {
    let get = |path, summary, answer| get(REGISTRY, path, summary, answer);
    let asked = |method, path, summary| other(method, REGISTRY, path, summary, PLAIN);
    const MANIFEST: Body = body("application/vnd.oci.image.manifest.v1+json", object);
    vec![
        get("/v2/", "Whether this is an OCI registry.", json(object)),
        get(
            "/v2/_accounts/{account}",
            "Names of an account's repositories.",
            json(object),
        )
        .signed(),
        get(
            "/v2/token",
            "A token for user and password, as `runrig image password` makes one.",
            json(object),
        ),
        get(
            "/v2/{name}/tags/list",
            "Tags of a repository.",
            json(object),
        )
        .query(&[("n", "So many at most."), ("last", "Only after this one.")])
        .signed(),
        get(
            "/v2/{name}/manifests/{reference}",
            "A manifest, by digest (open to all) or tag.",
            MANIFEST,
        ),
        asked(
            Method::Put,
            "/v2/{name}/manifests/{reference}",
            "Write a manifest.",
        )
        .sent(MANIFEST)
        .signed(),
        asked(
            Method::Delete,
            "/v2/{name}/manifests/{reference}",
            "Take a tag away, or a manifest with its tags.",
        )
        .signed(),
        get("/v2/{name}/blobs/{digest}", "A blob.", BYTES),
        asked(
            Method::Delete,
            "/v2/{name}/blobs/{digest}",
            "Take a blob away from a repository.",
        )
        .signed(),
        asked(
            Method::Post,
            "/v2/{name}/blobs/uploads/",
            "Begin to write a blob.",
        )
        .signed(),
        asked(
            Method::Patch,
            "/v2/{name}/blobs/uploads/{id}",
            "Write more of a blob.",
        )
        .sent(BYTES)
        .signed(),
        asked(
            Method::Put,
            "/v2/{name}/blobs/uploads/{id}",
            "Finish a blob: its digest is checked.",
        )
        .query(&[("digest", "Of the whole blob.")])
        .signed(),
        get(
            "/v2/{name}/blobs/uploads/{id}",
            "How much of a blob has come, as a Range header.",
            PLAIN,
        )
        .signed(),
        asked(
            Method::Delete,
            "/v2/{name}/blobs/uploads/{id}",
            "Give up writing a blob.",
        )
        .signed(),
        get(
            "/v2/{name}/referrers/{digest}",
            "What refers to a manifest.",
            json(object),
        ),
    ]
}
