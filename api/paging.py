"""Links from a page of a list to the next one (RFC 8288). It must not know what is listed."""

from urllib.parse import quote

from fastapi import Request


def next_link(request: Request, base_url: str, **replaced: object) -> dict[str, str]:
    """Return the header `Link` of the next page: the same address, with some of its query parameters replaced.

    Args:
        request: What was asked for.
        base_url: Start of links in answers, without a slash at its end.
        replaced: Query parameters that have another value there.
    """
    query = request.url.include_query_params(**replaced).query  # encodes whatever could end the link or the header
    return {"Link": f'<{base_url}{quote(request.url.path)}?{query}>; rel="next"'}
