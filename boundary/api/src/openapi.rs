//! `/openapi.json`, made of the table of endpoints.

use utoipa::openapi::path::{HttpMethod, PathItem};
use utoipa::openapi::path::{Operation, OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{
    Components, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, PathsBuilder, RefOr,
    Required, ResponseBuilder,
};

use crate::RequestAuth;
use crate::endpoint::{self, Endpoint, Method, Schemas};

/// The whole API, of all roles.
pub fn openapi() -> OpenApi {
    let mut schemas = Schemas::new();
    let problem = endpoint::problem(&mut schemas);
    let mut paths = PathsBuilder::new();
    for endpoint in endpoint::endpoints() {
        let method = match endpoint.method {
            Method::Get => HttpMethod::Get,
            Method::Post => HttpMethod::Post,
            Method::Put => HttpMethod::Put,
            Method::Patch => HttpMethod::Patch,
            Method::Delete => HttpMethod::Delete,
        };
        let operation = operation(&endpoint, &problem, &mut schemas);
        // Two methods of one path are merged.
        paths = paths.path(endpoint.path, PathItem::new(method, operation));
    }
    let mut components = Components::new();
    components.schemas.extend(schemas);
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Runrig")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(
                    "What the roles of a network answer; a gateway passes all of it on, at one \
                     address. Amounts are decimal strings of credits, times are milliseconds \
                     since 1970; what changes state is a signed transaction. Tags say which \
                     role answers.",
                ))
                .build(),
        )
        .paths(paths.build())
        .components(Some(components))
        .build()
}

fn operation(endpoint: &Endpoint, problem: &RefOr<Schema>, schemas: &mut Schemas) -> Operation {
    let answer = (endpoint.answer.schema)(schemas);
    let content = ContentBuilder::new().schema(Some(answer)).build();
    let good = ResponseBuilder::new()
        .description(endpoint.summary)
        .content(endpoint.answer.media, content);
    let content = ContentBuilder::new().schema(Some(problem.clone())).build();
    let bad = ResponseBuilder::new()
        .description("What is wrong, why, and the next act.")
        .content("application/json", content);
    let mut operation = OperationBuilder::new()
        .summary(Some(endpoint.summary))
        .tags(Some(endpoint.roles.iter().map(|r| r.name().to_string())))
        .response("200", good.build())
        .response("default", bad.build());
    let in_path = endpoint.path.split(['{', '}']).skip(1).step_by(2);
    let in_path = in_path.map(|name| (name, None, ParameterIn::Path, Required::True));
    let query = endpoint.query.iter();
    let query = query.map(|(n, about)| (*n, Some(*about), ParameterIn::Query, Required::False));
    let auth = "The account's public key, the time and its signature of this request.";
    let header = endpoint.signed.then_some((
        RequestAuth::HEADER,
        Some(auth),
        ParameterIn::Header,
        Required::True,
    ));
    for (name, about, place, required) in in_path.chain(query).chain(header) {
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(place)
            .required(required)
            .description(about)
            .schema(Some(endpoint::text(schemas)));
        operation = operation.parameter(parameter.build());
    }
    if let Some(sent) = endpoint.sent {
        let schema = (sent.schema)(schemas);
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let body = RequestBodyBuilder::new()
            .required(Some(Required::True))
            .content(sent.media, content);
        operation = operation.request_body(Some(body.build()));
    }
    operation.build()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reference_leads_somewhere_and_every_endpoint_is_told() {
        let document = serde_json::to_value(openapi()).expect("encodes");
        let text = document.to_string();
        let refs = text.split("#/components/schemas/").skip(1);
        for name in refs.filter_map(|rest| rest.split('"').next()) {
            assert!(
                document["components"]["schemas"][name].is_object(),
                "{name}"
            );
        }
        let mut seen = BTreeSet::new();
        for endpoint in endpoint::endpoints() {
            let method = format!("{:?}", endpoint.method).to_lowercase();
            assert!(
                seen.insert((endpoint.path, method.clone())),
                "twice: {}",
                endpoint.path
            );
            let told = &document["paths"][endpoint.path][&method];
            assert_eq!(told["summary"], endpoint.summary, "{}", endpoint.path);
            assert_eq!(told["requestBody"].is_object(), endpoint.sent.is_some());
        }
        let paths = document["paths"].as_object().expect("paths");
        let distinct: BTreeSet<&str> = seen.iter().map(|(path, _)| *path).collect();
        assert_eq!(paths.len(), distinct.len());
    }
}
