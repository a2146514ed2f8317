//! One kind of status: 0, a positive `CURLcode`, a negative number of libuv's, or one of uvcurl's own below -10000.

use libc::c_int;
use libuv_sys2 as uv;

/// The call came from another thread than the one that runs the loop.
pub const UVCURL_E_WRONG_THREAD: c_int = -10001;
/// The program and uvcurl use two different copies of libuv.
pub const UVCURL_E_LIBUV_MISMATCH: c_int = -10002;
/// The program and uvcurl use two different copies of libcurl.
pub const UVCURL_E_LIBCURL_MISMATCH: c_int = -10003;
/// libcurl's multi handle failed; every transfer in flight ends with this status and the driver goes on.
pub const UVCURL_E_MULTI: c_int = -10004;
/// An error inside uvcurl itself was contained; close the driver and report the bug.
pub const UVCURL_E_INTERNAL: c_int = -10005;

/// The libuv that is loaded is older than 1.44.0.
pub const UVCURL_E_LIBUV_TOO_OLD: c_int = -10006;
/// The libcurl that is loaded is older than 7.84.0.
pub const UVCURL_E_LIBCURL_TOO_OLD: c_int = -10007;

pub(crate) const OK: c_int = 0;
pub(crate) const ECANCELED: c_int = uv::uv_errno_t_UV_ECANCELED;
pub(crate) const EINVAL: c_int = uv::uv_errno_t_UV_EINVAL;
pub(crate) const EALREADY: c_int = uv::uv_errno_t_UV_EALREADY;
pub(crate) const EBUSY: c_int = uv::uv_errno_t_UV_EBUSY;
#[cfg(not(test))]
pub(crate) const EEXIST: c_int = uv::uv_errno_t_UV_EEXIST;
pub(crate) const ENOENT: c_int = uv::uv_errno_t_UV_ENOENT;
pub(crate) const ENOMEM: c_int = uv::uv_errno_t_UV_ENOMEM;
pub(crate) const ENOTSUP: c_int = uv::uv_errno_t_UV_ENOTSUP;

/// `CURLM_RECURSIVE_API_CALL`: libcurl is on the stack already. Never leaves the driver.
pub(crate) const RECURSIVE: c_int = -10999;

/// Every status of uvcurl's own: number, name, text. Numbers are never reused.
const OWN: &[(c_int, &std::ffi::CStr, &std::ffi::CStr)] = &[
    (
        UVCURL_E_WRONG_THREAD,
        c"UVCURL_E_WRONG_THREAD",
        c"called from another thread than the one that runs the loop",
    ),
    (
        UVCURL_E_LIBUV_MISMATCH,
        c"UVCURL_E_LIBUV_MISMATCH",
        c"the program and uvcurl use two different copies of libuv; build uvcurl on the program's libuv",
    ),
    (
        UVCURL_E_LIBCURL_MISMATCH,
        c"UVCURL_E_LIBCURL_MISMATCH",
        c"the program and uvcurl use two different copies of libcurl; build uvcurl on the program's libcurl",
    ),
    (
        UVCURL_E_MULTI,
        c"UVCURL_E_MULTI",
        c"libcurl's multi handle failed",
    ),
    (
        UVCURL_E_INTERNAL,
        c"UVCURL_E_INTERNAL",
        c"an error inside uvcurl was contained; please report it",
    ),
    (
        UVCURL_E_LIBUV_TOO_OLD,
        c"UVCURL_E_LIBUV_TOO_OLD",
        c"the libuv that is loaded is older than 1.44.0, which uvcurl needs",
    ),
    (
        UVCURL_E_LIBCURL_TOO_OLD,
        c"UVCURL_E_LIBCURL_TOO_OLD",
        c"the libcurl that is loaded is older than 7.84.0, which uvcurl needs",
    ),
];

/// Name and text of a status of uvcurl's own.
pub(crate) fn own(status: c_int) -> Option<(&'static std::ffi::CStr, &'static std::ffi::CStr)> {
    OWN.iter()
        .find(|(number, _, _)| *number == status)
        .map(|(_, name, text)| (*name, *text))
}

/// The status for a `CURLMcode` that is not `CURLM_OK`.
pub(crate) fn from_multi(code: curl_sys::CURLMcode) -> c_int {
    match code {
        curl_sys::CURLM_BAD_EASY_HANDLE => EINVAL,
        curl_sys::CURLM_OUT_OF_MEMORY => ENOMEM,
        // "already added": to this multi handle or to another one; the driver has ruled out its own.
        CURLM_ADDED_ALREADY => EBUSY,
        CURLM_RECURSIVE_API_CALL => RECURSIVE,
        _ => UVCURL_E_MULTI,
    }
}

// Not in curl-sys; libcurl 7.32.1 and 7.59.0.
const CURLM_ADDED_ALREADY: curl_sys::CURLMcode = 7;
const CURLM_RECURSIVE_API_CALL: curl_sys::CURLMcode = 8;

/// The names of libcurl's transfer codes, by number; libcurl has texts for them but no names. `None`: a number that no
/// libcurl since 7.84 uses.
pub(crate) fn curl_name(code: c_int) -> Option<&'static std::ffi::CStr> {
    CURL_NAMES
        .binary_search_by_key(&code, |(number, _)| *number)
        .ok()
        .map(|at| CURL_NAMES[at].1)
}

#[rustfmt::skip]
const CURL_NAMES: &[(c_int, &std::ffi::CStr)] = &[
    (0, c"CURLE_OK"),
    (1, c"CURLE_UNSUPPORTED_PROTOCOL"),
    (2, c"CURLE_FAILED_INIT"),
    (3, c"CURLE_URL_MALFORMAT"),
    (4, c"CURLE_NOT_BUILT_IN"),
    (5, c"CURLE_COULDNT_RESOLVE_PROXY"),
    (6, c"CURLE_COULDNT_RESOLVE_HOST"),
    (7, c"CURLE_COULDNT_CONNECT"),
    (8, c"CURLE_WEIRD_SERVER_REPLY"),
    (9, c"CURLE_REMOTE_ACCESS_DENIED"),
    (10, c"CURLE_FTP_ACCEPT_FAILED"),
    (11, c"CURLE_FTP_WEIRD_PASS_REPLY"),
    (12, c"CURLE_FTP_ACCEPT_TIMEOUT"),
    (13, c"CURLE_FTP_WEIRD_PASV_REPLY"),
    (14, c"CURLE_FTP_WEIRD_227_FORMAT"),
    (15, c"CURLE_FTP_CANT_GET_HOST"),
    (16, c"CURLE_HTTP2"),
    (17, c"CURLE_FTP_COULDNT_SET_TYPE"),
    (18, c"CURLE_PARTIAL_FILE"),
    (19, c"CURLE_FTP_COULDNT_RETR_FILE"),
    (21, c"CURLE_QUOTE_ERROR"),
    (22, c"CURLE_HTTP_RETURNED_ERROR"),
    (23, c"CURLE_WRITE_ERROR"),
    (25, c"CURLE_UPLOAD_FAILED"),
    (26, c"CURLE_READ_ERROR"),
    (27, c"CURLE_OUT_OF_MEMORY"),
    (28, c"CURLE_OPERATION_TIMEDOUT"),
    (30, c"CURLE_FTP_PORT_FAILED"),
    (31, c"CURLE_FTP_COULDNT_USE_REST"),
    (33, c"CURLE_RANGE_ERROR"),
    (34, c"CURLE_HTTP_POST_ERROR"),
    (35, c"CURLE_SSL_CONNECT_ERROR"),
    (36, c"CURLE_BAD_DOWNLOAD_RESUME"),
    (37, c"CURLE_FILE_COULDNT_READ_FILE"),
    (38, c"CURLE_LDAP_CANNOT_BIND"),
    (39, c"CURLE_LDAP_SEARCH_FAILED"),
    (41, c"CURLE_FUNCTION_NOT_FOUND"),
    (42, c"CURLE_ABORTED_BY_CALLBACK"),
    (43, c"CURLE_BAD_FUNCTION_ARGUMENT"),
    (45, c"CURLE_INTERFACE_FAILED"),
    (47, c"CURLE_TOO_MANY_REDIRECTS"),
    (48, c"CURLE_UNKNOWN_OPTION"),
    (49, c"CURLE_SETOPT_OPTION_SYNTAX"),
    (52, c"CURLE_GOT_NOTHING"),
    (53, c"CURLE_SSL_ENGINE_NOTFOUND"),
    (54, c"CURLE_SSL_ENGINE_SETFAILED"),
    (55, c"CURLE_SEND_ERROR"),
    (56, c"CURLE_RECV_ERROR"),
    (58, c"CURLE_SSL_CERTPROBLEM"),
    (59, c"CURLE_SSL_CIPHER"),
    (60, c"CURLE_PEER_FAILED_VERIFICATION"),
    (61, c"CURLE_BAD_CONTENT_ENCODING"),
    (63, c"CURLE_FILESIZE_EXCEEDED"),
    (64, c"CURLE_USE_SSL_FAILED"),
    (65, c"CURLE_SEND_FAIL_REWIND"),
    (66, c"CURLE_SSL_ENGINE_INITFAILED"),
    (67, c"CURLE_LOGIN_DENIED"),
    (68, c"CURLE_TFTP_NOTFOUND"),
    (69, c"CURLE_TFTP_PERM"),
    (70, c"CURLE_REMOTE_DISK_FULL"),
    (71, c"CURLE_TFTP_ILLEGAL"),
    (72, c"CURLE_TFTP_UNKNOWNID"),
    (73, c"CURLE_REMOTE_FILE_EXISTS"),
    (74, c"CURLE_TFTP_NOSUCHUSER"),
    (77, c"CURLE_SSL_CACERT_BADFILE"),
    (78, c"CURLE_REMOTE_FILE_NOT_FOUND"),
    (79, c"CURLE_SSH"),
    (80, c"CURLE_SSL_SHUTDOWN_FAILED"),
    (81, c"CURLE_AGAIN"),
    (82, c"CURLE_SSL_CRL_BADFILE"),
    (83, c"CURLE_SSL_ISSUER_ERROR"),
    (84, c"CURLE_FTP_PRET_FAILED"),
    (85, c"CURLE_RTSP_CSEQ_ERROR"),
    (86, c"CURLE_RTSP_SESSION_ERROR"),
    (87, c"CURLE_FTP_BAD_FILE_LIST"),
    (88, c"CURLE_CHUNK_FAILED"),
    (89, c"CURLE_NO_CONNECTION_AVAILABLE"),
    (90, c"CURLE_SSL_PINNEDPUBKEYNOTMATCH"),
    (91, c"CURLE_SSL_INVALIDCERTSTATUS"),
    (92, c"CURLE_HTTP2_STREAM"),
    (93, c"CURLE_RECURSIVE_API_CALL"),
    (94, c"CURLE_AUTH_ERROR"),
    (95, c"CURLE_HTTP3"),
    (96, c"CURLE_QUIC_CONNECT_ERROR"),
    (97, c"CURLE_PROXY"),
    (98, c"CURLE_SSL_CLIENTCERT"),
    (99, c"CURLE_UNRECOVERABLE_POLL"),
    (100, c"CURLE_TOO_LARGE"),
    (101, c"CURLE_ECH_REQUIRED"),
];
