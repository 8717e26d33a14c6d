"""The OpenAI-compatible routes; they exist where ``http.openai`` or the setting asks for them.

routes       paths
errors       errors in OpenAI's shape
served       models as assistants
parameters   what becomes of the parameters of a request
inputs       messages of a request as LangChain's
turns        a request's run and its thread
states       the state of a thread
speech       what a run says while it runs
outputs      what a run has said
chat         chat completions
responses    responses
"""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from greenroom.http.answering import json
from greenroom.http.documents import doc
from greenroom.http.edge import dialect_of, edge_of
from greenroom.http.openai import chat, responses
from greenroom.http.openai.errors import OpenAiRoute
from greenroom.http.openai.served import model_object, models
from greenroom.wire.openai_models import ChatCompletionCreate, ResponseCreate

router = APIRouter(tags=["OpenAI"], route_class=OpenAiRoute)

_CREATE_ERRORS = (400, 404, 409)


@router.post(
    "/v1/chat/completions",
    summary="Ask an assistant, in the form of OpenAI's chat completions",
    **doc({200: object}, body=ChatCompletionCreate, once=True, errors=_CREATE_ERRORS),
)
async def create_chat_completion(request: Request) -> Response:
    return await chat.create(request)


@router.post(
    "/v1/responses",
    summary="Ask an assistant, in the form of OpenAI's responses",
    **doc({200: object}, body=ResponseCreate, once=True, errors=_CREATE_ERRORS),
)
async def create_response(request: Request) -> Response:
    return await responses.create(request)


@router.get(
    "/v1/responses/{response_id}",
    summary="Get a response, or join its stream",
    **doc(
        {200: object},
        query={
            "stream": {"type": "boolean"},
            "starting_after": {"type": "integer", "minimum": 0},
        },
        errors=(400, 404),
    ),
)
async def get_response(request: Request, response_id: str) -> Response:
    return await responses.get(request, response_id)


@router.post(
    "/v1/responses/{response_id}/cancel",
    summary="Cancel a response",
    **doc({200: object}, errors=(404,)),
)
async def cancel_response(request: Request, response_id: str) -> Response:
    return await responses.cancel(request, response_id)


@router.delete(
    "/v1/responses/{response_id}",
    summary="Delete a response with its run",
    **doc({200: object}, errors=(404,)),
)
async def delete_response(request: Request, response_id: str) -> Response:
    return await responses.delete(request, response_id)


@router.get("/v1/models", summary="List the assistants that take messages", **doc({200: object}))
async def list_models(request: Request) -> Response:
    return json({"object": "list", "data": await models(edge_of(request))})


@router.get(
    "/v1/models/{model:path}",
    summary="Get an assistant as a model",
    **doc({200: object}, errors=(404,)),
)
async def get_model(request: Request, model: str) -> Response:
    return json(await model_object(edge_of(request), dialect_of(request), model))
