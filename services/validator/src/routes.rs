//! What may be asked here: one table, of which both the router and `/openapi.json` are made.

use api::{
    AccountView, AllocationView, Bill, BlockView, ChainStatus, DeploymentView, EventProof,
    EventView, HostPlan, HostView, NetworkFile, Problem, Quote, QuoteRequest, Routes, Submit,
    Submitted, Supply, TransactionView, WhyView,
};
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use utoipa::ToSchema;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, Type};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, PathItem,
    PathsBuilder, Ref, RefOr, Required, ResponseBuilder,
};

use crate::answer::Refused;
use crate::http::{self, App};
use crate::{chain_api, metrics, money_api};

const BODY_MAX: usize = 512 * 1024;
/// Shared parameters.
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

type Schemas = Vec<(String, RefOr<Schema>)>;

struct Body {
    media: &'static str,
    schema: fn(&mut Schemas) -> RefOr<Schema>,
}

struct Route {
    path: &'static str,
    summary: &'static str,
    query: Vec<(&'static str, &'static str)>,
    sent: Option<Body>,
    answer: Body,
    handler: MethodRouter<App>,
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

fn text(_: &mut Schemas) -> RefOr<Schema> {
    Schema::from(ObjectBuilder::new().schema_type(Type::String).build()).into()
}

fn json(schema: fn(&mut Schemas) -> RefOr<Schema>) -> Body {
    let media = "application/json";
    Body { media, schema }
}

fn asked(
    path: &'static str,
    summary: &'static str,
    answer: Body,
    handler: MethodRouter<App>,
) -> Route {
    Route {
        path,
        summary,
        query: Vec::new(),
        sent: None,
        answer,
        handler,
    }
}

impl Route {
    fn query<const N: usize>(mut self, names: [(&'static str, &'static str); N]) -> Self {
        self.query = names.into();
        self
    }

    fn sent(mut self, body: Body) -> Self {
        self.sent = Some(body);
        self
    }
}

fn all() -> Vec<Route> {
    let plain = || Body {
        media: "text/plain",
        schema: text,
    };
    vec![
        asked(
            "/healthz",
            "Whether this process answers.",
            plain(),
            get(|| async { "ok\n" }),
        ),
        asked(
            "/metrics",
            "Figures for Prometheus.",
            plain(),
            get(metrics::metrics),
        ),
        asked(
            "/openapi.json",
            "This description.",
            json(object),
            get(|| async { Json(document()) }),
        ),
        asked(
            "/v1/status",
            "The finalised head.",
            json(named::<ChainStatus>),
            get(http::status),
        ),
        asked(
            "/v1/network",
            "What takes part in the network starts from.",
            json(named::<NetworkFile>),
            get(http::network),
        ),
        asked(
            "/v1/params",
            "Network parameters.",
            json(object),
            get(http::params),
        ),
        asked(
            "/v1/supply",
            "All money, by genesis and added up now.",
            json(named::<Supply>),
            get(money_api::supply),
        ),
        asked(
            "/v1/blocks/{height}",
            "A block, its certificate and what came of its transactions.",
            json(named::<BlockView>),
            get(chain_api::block),
        ),
        asked(
            "/v1/accounts/{id}",
            "An account.",
            json(named::<AccountView>),
            get(http::account),
        ),
        asked(
            "/v1/hosts",
            "Registered hosts.",
            json(listed::<HostView>),
            get(http::hosts),
        )
        .query([FROM]),
        asked(
            "/v1/hosts/{id}",
            "A host, by id or name.",
            json(named::<HostView>),
            get(http::host),
        ),
        asked(
            "/v1/hosts/{id}/plan",
            "What should run on a host.",
            json(named::<HostPlan>),
            get(http::plan),
        )
        .query([
            ("after", "Held back until the plan's number is greater."),
            WAIT,
        ]),
        asked(
            "/v1/deployments",
            "Deployments.",
            json(listed::<DeploymentView>),
            get(http::deployments),
        )
        .query([OWNER, ("all", "Removed ones too."), FROM]),
        asked(
            "/v1/deployments/{id}",
            "A deployment.",
            json(named::<DeploymentView>),
            get(http::deployment),
        ),
        asked(
            "/v1/allocations",
            "Replicas of an account, a deployment or on a host.",
            json(listed::<AllocationView>),
            get(http::allocations),
        )
        .query([
            OWNER,
            DEPLOYMENT,
            ("host", "Only on this host."),
            ("all", "Ended ones too."),
            FROM,
        ]),
        asked(
            "/v1/allocations/{id}",
            "A replica.",
            json(named::<AllocationView>),
            get(http::allocation),
        ),
        asked(
            "/v1/allocations/{id}/why",
            "Why a replica is where it is.",
            json(named::<WhyView>),
            get(http::why),
        ),
        asked(
            "/v1/routes",
            "Where requests go.",
            json(named::<Routes>),
            get(http::routes),
        )
        .query([
            ("after", "Held back until routes changed after this height."),
            WAIT,
        ]),
        asked(
            "/v1/quote",
            "What a deployment would cost and change.",
            json(named::<Quote>),
            post(money_api::quote),
        )
        .sent(json(named::<QuoteRequest>)),
        asked(
            "/v1/transactions",
            "Submit a signed transaction.",
            json(named::<Submitted>),
            post(chain_api::submit),
        )
        .query([WAIT])
        .sent(json(named::<Submit>)),
        asked(
            "/v1/transactions/{id}",
            "What became of a transaction.",
            json(named::<TransactionView>),
            get(chain_api::transaction),
        )
        .query([WAIT]),
        asked(
            "/v1/events",
            "Events as they happen; with Accept: application/json one page.",
            Body {
                media: "text/event-stream",
                schema: named::<EventView>,
            },
            get(chain_api::events),
        )
        .query([
            OWNER,
            DEPLOYMENT,
            ("from", "Number of the first event wanted."),
        ]),
        asked(
            "/v1/bill",
            "The itemised bill of an account or a deployment.",
            json(named::<Bill>),
            get(money_api::bill),
        )
        .query([OWNER, DEPLOYMENT]),
        asked(
            "/v1/receipts/{id}",
            "A settled usage line.",
            json(object),
            get(money_api::receipt),
        ),
        asked(
            "/v1/receipts/{id}/proof",
            "A receipt under its certified block.",
            json(named::<EventProof>),
            get(money_api::receipt_proof),
        ),
    ]
}

pub fn router(app: App) -> Router {
    all()
        .into_iter()
        .fold(Router::new(), |router, r| router.route(r.path, r.handler))
        .fallback(|| async { Refused::not_found("this path", "See /openapi.json.") })
        .method_not_allowed_fallback(|| async {
            let code = StatusCode::METHOD_NOT_ALLOWED;
            let why = "it is not asked for by this method";
            Refused::new(code, "invalid", "this path", why, "See /openapi.json.")
        })
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(app)
}

fn document() -> OpenApi {
    let mut schemas = Schemas::new();
    let problem = named::<Problem>(&mut schemas);
    let mut paths = PathsBuilder::new();
    for route in all() {
        let answer = (route.answer.schema)(&mut schemas);
        let content = ContentBuilder::new().schema(Some(answer)).build();
        let good = ResponseBuilder::new()
            .description(route.summary)
            .content(route.answer.media, content);
        let content = ContentBuilder::new().schema(Some(problem.clone())).build();
        let bad = ResponseBuilder::new()
            .description("What is wrong, why, and the next act.")
            .content("application/json", content);
        let mut operation = OperationBuilder::new()
            .summary(Some(route.summary))
            .response("200", good.build())
            .response("default", bad.build());
        let in_path = route.path.split(['{', '}']).skip(1).step_by(2);
        for name in in_path {
            let parameter = ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .schema(Some(text(&mut schemas)));
            operation = operation.parameter(parameter.build());
        }
        for (name, about) in route.query {
            let parameter = ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Query)
                .required(Required::False)
                .description(Some(about))
                .schema(Some(text(&mut schemas)));
            operation = operation.parameter(parameter.build());
        }
        let method = match &route.sent {
            None => HttpMethod::Get,
            Some(_) => HttpMethod::Post,
        };
        if let Some(sent) = route.sent {
            let schema = (sent.schema)(&mut schemas);
            let content = ContentBuilder::new().schema(Some(schema)).build();
            let body = RequestBodyBuilder::new()
                .required(Some(Required::True))
                .content(sent.media, content);
            operation = operation.request_body(Some(body.build()));
        }
        paths = paths.path(route.path, PathItem::new(method, operation.build()));
    }
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Runrig")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(
                    "What the ledger answers. Amounts are decimal strings of credits, times are \
                     milliseconds since 1970; what changes state is a signed transaction.",
                ))
                .build(),
        )
        .paths(paths.build())
        .components(Some(
            ComponentsBuilder::new().schemas_from_iter(schemas).build(),
        ))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere() {
        let document = serde_json::to_value(document()).expect("encodes");
        let text = document.to_string();
        let refs = text.split("#/components/schemas/").skip(1);
        for name in refs.filter_map(|rest| rest.split('"').next()) {
            assert!(
                document["components"]["schemas"][name].is_object(),
                "{name}"
            );
        }
        let paths = document["paths"].as_object().expect("paths");
        assert_eq!(paths.len(), all().len());
        assert!(paths["/v1/transactions"]["post"]["requestBody"].is_object());
    }
}
